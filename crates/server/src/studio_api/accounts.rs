use std::time::{Duration, Instant};

use api_types::ErrorBody;
use axum::{
    Extension, Form, Json,
    extract::{State, rejection::FormRejection},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use store::Account;
use utoipa::ToSchema;

use super::tasks::Done;
use crate::{
    app::Shared,
    audit::About,
    auth::{self, COOKIE},
    connections::Peer,
    error::{ApiError, Result, blocking},
    extract, passwords, people,
};

/// Characters of a name that are worth looking up.
const LONGEST_NAME: usize = 64;

/// A session
#[derive(Serialize, ToSchema)]
pub struct Token {
    access_token: String,
    /// `bearer`.
    token_type: &'static str,
}

/// Somebody who can sign in
#[derive(Serialize, ToSchema)]
pub struct Person {
    id: i64,
    username: String,
    created_at: String,
    is_guest: bool,
}

impl From<Account> for Person {
    fn from(account: Account) -> Person {
        Person {
            id: account.id,
            is_guest: account.password_hash.is_none(),
            username: account.username,
            created_at: account.created_at.to_string(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
pub struct Credentials {
    username: String,
    password: String,
}

type SignedIn = ([(HeaderName, String); 2], Extension<About>, Json<Token>);

/// Sign in without a name
///
/// In the one-person default a guest is the owner of the machine; where authentication is on there are no guests.
#[utoipa::path(post, path = "/api/auth/guest", operation_id = "auth_guest", tag = "first generation", responses(
    (status = 200, body = Token),
    (status = 403, body = ErrorBody),
))]
pub async fn guest(State(app): State<Shared>, peer: Peer) -> Result<SignedIn> {
    if app.options.authentication {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "no-guests", "已启用身份验证，不允许访客登录")
            .next("Sign in at /api/auth/login"));
    }
    let guest = auth::guest(&app).await?;
    sign_in(&app, &guest, peer).await
}

/// Sign in
#[utoipa::path(post, path = "/api/auth/login", operation_id = "auth_login", tag = "first generation",
    request_body(content = Credentials, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = Token),
        (status = 401, body = ErrorBody),
        (status = 422, body = ErrorBody),
        (status = 429, description = "Too many wrong passwords of late; Retry-After says when to try again", body = ErrorBody),
    )
)]
pub async fn login(
    State(app): State<Shared>,
    peer: Peer,
    form: std::result::Result<Form<Credentials>, FormRejection>,
) -> std::result::Result<SignedIn, (Extension<About>, ApiError)> {
    let form = form.map_err(|error| (Extension(About::default()), extract::unreadable(&error.body_text())))?;
    let Form(Credentials { username, password }) = form;
    let about = About { who: Some(username.chars().take(64).collect()), ..About::default() };
    let signed_in = async {
        if username.chars().count() > LONGEST_NAME {
            return Err(wrong());
        }
        let account = check_password(&app, peer, username, password).await?;
        sign_in(&app, &account, peer).await
    };
    signed_in.await.map_err(|error| match &*error.code {
        // Who is held up makes no more entries.
        "too-many-attempts" => (Extension(About::default()), error),
        _ => (Extension(about), error),
    })
}

/// Make an account
///
/// The first one is the owner's. Where authentication is on, only owners can: make the first before switching it on.
#[utoipa::path(post, path = "/api/auth/register", operation_id = "auth_register", tag = "first generation", request_body = Credentials, responses(
    (status = 200, body = Person),
    (status = 400, description = "The name is taken or the password too short", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
    (status = 409, description = "An account of this name has left tasks or data sets", body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
pub async fn register(
    State(app): State<Shared>,
    extract::Json(Credentials { username, password }): extract::Json<Credentials>,
) -> Result<(Extension<About>, Json<Person>)> {
    let _turn = app.hashing.acquire().await.expect("never closed");
    let accounts = app.accounts.clone();
    let account = blocking(move || people::register(&accounts, &username, &password).map_err(ApiError::in_chinese));
    let account = account.await?;
    let about = About { detail: Some(account.role.as_str().into()), ..About::target(&account.username) };
    Ok((Extension(about), Json(account.into())))
}

/// Who is signed in
#[utoipa::path(get, path = "/api/auth/me", operation_id = "auth_me", tag = "first generation", responses(
    (status = 200, body = Person),
    (status = 401, body = ErrorBody),
))]
pub async fn me(State(app): State<Shared>, headers: HeaderMap) -> Result<Json<Person>> {
    let opened = auth::opened(&app, &headers).await?;
    opened.map(|opened| Json(opened.account.into())).ok_or_else(|| ApiError::unauthorized("Not authenticated"))
}

/// Sign out
#[utoipa::path(post, path = "/api/auth/logout", operation_id = "auth_logout", tag = "first generation", responses((status = 200, body = Done)))]
pub async fn logout(State(app): State<Shared>, peer: Peer, headers: HeaderMap) -> Result<impl IntoResponse> {
    if let Some(secret) = auth::secret(&headers) {
        auth::close_session(&app, secret).await?;
    }
    Ok(([(header::SET_COOKIE, cookie("", peer, Duration::ZERO))], Done::new("已退出登录".into())))
}

/// The account, if the password is right and not too many were wrong of late. Takes as long for a name that does not
/// exist.
pub async fn check_password(app: &Shared, peer: Peer, username: String, password: String) -> Result<Account> {
    let address = peer.address.ip();
    app.attempts.begin(&username, address, Instant::now()).map_err(|wait| {
        let minutes = wait.as_secs().div_ceil(60);
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", "too many wrong passwords of late")
            .zh(format!("密码错误次数过多，请在 {minutes} 分钟后重试"))
            .next(format!("Try again in {minutes} minutes"))
            .retry_after(wait)
    })?;
    let _turn = app.hashing.acquire().await.expect("never closed");
    let checking = app.clone();
    let account = blocking(move || {
        let account = checking.accounts.by_name(&username)?;
        let hash = account.as_ref().and_then(|account| account.password_hash.as_deref());
        let right = password.chars().count() <= passwords::LONGEST && passwords::verify(&password, hash);
        Ok(account.filter(|_| right))
    });
    let account = account.await?.ok_or_else(wrong)?;
    app.attempts.succeeded(&account.username, address);
    Ok(account)
}

fn wrong() -> ApiError {
    ApiError::unauthorized("用户名或密码错误").zh("用户名或密码错误")
}

async fn sign_in(app: &Shared, account: &Account, peer: Peer) -> Result<SignedIn> {
    let secret = auth::open_session(app, account.id).await?;
    let cookie = cookie(&secret, peer, store::SESSION.unsigned_abs());
    let headers = [(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, "no-store".into())];
    let about = About { who: Some(account.username.clone()), ..About::default() };
    Ok((headers, Extension(about), Json(Token { access_token: secret, token_type: "bearer" })))
}

/// Sent back to us alone, shown to no script, and with TLS never without.
fn cookie(secret: &str, peer: Peer, life: Duration) -> String {
    let secure = if peer.tls { "; Secure" } else { "" };
    format!("{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", life.as_secs())
}
