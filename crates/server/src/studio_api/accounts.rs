use api_types::ErrorBody;
use axum::{
    Form, Json,
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
    auth::{self, COOKIE, GUEST},
    error::{ApiError, Result},
    extract,
};

/// Characters that a password needs at least.
const PASSWORD_LENGTH: usize = 6;
/// Characters that a password may have, which bounds the work of hashing it.
const LONGEST_PASSWORD: usize = 1024;
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

type SignedIn = ([(HeaderName, String); 2], Json<Token>);

/// Sign in without a name
///
/// In the one-person default a guest is the owner of the machine; where authentication is on there are no guests.
#[utoipa::path(post, path = "/api/auth/guest", operation_id = "auth_guest", tag = "first generation", responses(
    (status = 200, body = Token),
    (status = 403, body = ErrorBody),
))]
pub async fn guest(State(app): State<Shared>) -> Result<SignedIn> {
    if app.options.authentication {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "no-guests", "已启用身份验证，不允许访客登录")
            .next("Sign in at /api/auth/login"));
    }
    let guest = auth::guest(&app).await?;
    sign_in(&app, &guest).await
}

/// Sign in
#[utoipa::path(post, path = "/api/auth/login", operation_id = "auth_login", tag = "first generation",
    request_body(content = Credentials, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = Token),
        (status = 401, body = ErrorBody),
        (status = 422, body = ErrorBody),
    )
)]
pub async fn login(
    State(app): State<Shared>,
    form: std::result::Result<Form<Credentials>, FormRejection>,
) -> Result<SignedIn> {
    let Form(Credentials { username, password }) = form.map_err(|error| ApiError::invalid(error.body_text()))?;
    let wrong = || ApiError::unauthorized("用户名或密码错误");
    if username.chars().count() > LONGEST_NAME || password.chars().count() > LONGEST_PASSWORD {
        return Err(wrong());
    }
    let account = auth::check_password(&app, username, password).await?.ok_or_else(wrong)?;
    sign_in(&app, &account).await
}

/// Make an account
///
/// Where authentication is on, only somebody who is signed in can: make the first one before switching it on.
#[utoipa::path(post, path = "/api/auth/register", operation_id = "auth_register", tag = "first generation", request_body = Credentials, responses(
    (status = 200, body = Person),
    (status = 400, description = "The name is taken or the password too short", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
pub async fn register(
    State(app): State<Shared>,
    extract::Json(Credentials { username, password }): extract::Json<Credentials>,
) -> Result<Json<Person>> {
    let username = username.trim().to_owned();
    if username.is_empty() || username.chars().count() > LONGEST_NAME || username.chars().any(char::is_control) {
        return Err(ApiError::bad_request("bad-name", format!("用户名需要 1 到 {LONGEST_NAME} 个字符")));
    }
    if username == GUEST {
        return Err(ApiError::bad_request("name-taken", "用户名已存在").next("Choose another name"));
    }
    let length = password.chars().count();
    if length < PASSWORD_LENGTH {
        return Err(ApiError::bad_request("short-password", format!("密码至少需要 {PASSWORD_LENGTH} 个字符")));
    }
    if length > LONGEST_PASSWORD {
        return Err(ApiError::bad_request("long-password", format!("密码最多 {LONGEST_PASSWORD} 个字符")));
    }
    let account = auth::register(&app, username, password).await?;
    Ok(Json(account.into()))
}

/// Who is signed in
#[utoipa::path(get, path = "/api/auth/me", operation_id = "auth_me", tag = "first generation", responses(
    (status = 200, body = Person),
    (status = 401, body = ErrorBody),
))]
pub async fn me(State(app): State<Shared>, headers: HeaderMap) -> Result<Json<Person>> {
    let account = auth::session(&app, &headers).await?;
    account.map(|account| Json(account.into())).ok_or_else(|| ApiError::unauthorized("Not authenticated"))
}

/// Sign out
#[utoipa::path(post, path = "/api/auth/logout", operation_id = "auth_logout", tag = "first generation", responses((status = 200, body = Done)))]
pub async fn logout(State(app): State<Shared>, headers: HeaderMap) -> Result<impl IntoResponse> {
    if let Some(token) = auth::token(&headers) {
        auth::close_session(&app, token).await?;
    }
    let cookie = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    Ok(([(header::SET_COOKIE, cookie)], Done::new("已退出登录".into())))
}

async fn sign_in(app: &Shared, account: &Account) -> Result<SignedIn> {
    let token = auth::open_session(app, account.id).await?;
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax");
    let headers = [(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, "no-store".into())];
    Ok((headers, Json(Token { access_token: token, token_type: "bearer" })))
}
