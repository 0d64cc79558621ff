use api_types::{AccountPatch, AccountView, ErrorBody, Me, NewAccount, PasswordChange};
use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use store::By;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::Shared,
    audit::About,
    auth::{Caller, Who},
    connections::Peer,
    error::{ApiError, Result, blocking},
    extract, passwords, people,
    studio_api::accounts::check_password,
};

pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(change_password))
        .routes(routes!(list, add))
        .routes(routes!(change, remove))
}

/// Who is asking
#[utoipa::path(get, path = "/api/v1/me", operation_id = "get_me", tag = "accounts", responses(
    (status = 200, body = Me),
    (status = 401, body = ErrorBody),
))]
async fn me(State(app): State<Shared>, Caller(who): Caller) -> Result<Json<Me>> {
    let authentication = app.options.authentication;
    blocking(move || {
        let account = app.accounts.by_name(&who)?;
        let allowance = account.map(|account| account.allowance).unwrap_or_default();
        Ok(Json(Me {
            role: who.role.as_str().into(),
            access: who.access.as_str().into(),
            name: who.name,
            authentication,
            quota: people::quota(&allowance),
        }))
    })
    .await
}

/// Change one's password
///
/// Ends all sessions of the account, this one as well.
#[utoipa::path(put, path = "/api/v1/me/password", operation_id = "change_my_password", tag = "accounts", request_body = PasswordChange, responses(
    (status = 204),
    (status = 400, body = ErrorBody),
    (status = 401, description = "The current password is wrong", body = ErrorBody),
    (status = 403, description = "A token cannot change the password", body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody),
    (status = 429, body = ErrorBody),
))]
async fn change_password(
    State(app): State<Shared>,
    Caller(who): Caller,
    peer: Peer,
    extract::Json(PasswordChange { current, new }): extract::Json<PasswordChange>,
) -> Result<StatusCode> {
    if who.by != Some(By::Session) {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "needs-session", "only who signed in can change a password")
            .zh("只有登录后才能修改密码，令牌不行")
            .next("Sign in with the current password; an owner can set a new one"));
    }
    passwords::check_length(&new, passwords::LENGTH)?;
    check_password(&app, peer, who.name.clone(), current).await?;
    let patch = AccountPatch { password: Some(new), ..AccountPatch::default() };
    changed(&app, who.name, patch).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All accounts, by name
#[utoipa::path(get, path = "/api/v1/accounts", operation_id = "list_accounts", tag = "accounts", responses(
    (status = 200, body = [AccountView]),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
))]
async fn list(State(app): State<Shared>) -> Result<Json<Vec<AccountView>>> {
    blocking(move || people::list(&app.accounts).map(Json)).await
}

/// Make an account
#[utoipa::path(post, path = "/api/v1/accounts", operation_id = "add_account", tag = "accounts", request_body = NewAccount, responses(
    (status = 201, body = AccountView),
    (status = 400, description = "The name is taken or the password too short", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
    (status = 409, description = "An account of this name has left tasks or data sets", body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
async fn add(
    State(app): State<Shared>,
    extract::Json(account): extract::Json<NewAccount>,
) -> Result<(StatusCode, Extension<About>, Json<AccountView>)> {
    let _turn = app.hashing.acquire().await.expect("never closed");
    let (adding, inherits) = (app.clone(), account.inherit);
    let view = blocking(move || {
        let view = people::add(&adding.accounts, account)?;
        adding.allowances_changed()?;
        Ok(view)
    })
    .await?;
    let about = About { detail: Some(people::added(&view, inherits)), ..About::target(&view.name) };
    Ok((StatusCode::CREATED, Extension(about), Json(view)))
}

/// Change role, password or quota of an account
#[utoipa::path(patch, path = "/api/v1/accounts/{name}", operation_id = "change_account", tag = "accounts", params(("name" = String, Path)), request_body = AccountPatch,
    responses(
        (status = 200, body = AccountView),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, description = "One's own role", body = ErrorBody),
        (status = 415, body = ErrorBody),
        (status = 422, body = ErrorBody),
    )
)]
async fn change(
    State(app): State<Shared>,
    Caller(who): Caller,
    Path(name): Path<String>,
    extract::Json(patch): extract::Json<AccountPatch>,
) -> Result<(Extension<About>, Json<AccountView>)> {
    if patch.role.is_some() && is_signed_in_as(&app, &who, &name) {
        return Err(own_account());
    }
    let mut changes = Vec::new();
    changes.extend(patch.role.as_ref().map(|role| format!("role {role}")));
    changes.extend(patch.password.as_ref().map(|_| "password".to_owned()));
    changes.extend(
        patch
            .quota
            .as_ref()
            .map(|quota| format!("quota {}", serde_json::to_string(quota).expect("a quota is plain data"))),
    );
    let view = changed(&app, name, patch).await?;
    let about = About { detail: Some(changes.join(", ")), ..About::target(&view.name) };
    Ok((Extension(about), Json(view)))
}

/// Remove an account with its sessions and tokens
///
/// Its tasks and data sets stay; owners can see to them.
#[utoipa::path(delete, path = "/api/v1/accounts/{name}", operation_id = "remove_account", tag = "accounts", params(("name" = String, Path)), responses(
    (status = 204),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "One's own account", body = ErrorBody),
))]
async fn remove(State(app): State<Shared>, Caller(who): Caller, Path(name): Path<String>) -> Result<StatusCode> {
    if is_signed_in_as(&app, &who, &name) {
        return Err(own_account());
    }
    blocking(move || {
        people::remove(&app.accounts, &name)?;
        app.allowances_changed()?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

async fn changed(app: &Shared, name: String, patch: AccountPatch) -> Result<AccountView> {
    let _turn = app.hashing.acquire().await.expect("never closed");
    let app = app.clone();
    blocking(move || {
        let view = people::change(&app.accounts, &name, patch)?;
        app.allowances_changed()?;
        Ok(view)
    })
    .await
}

/// So that an owner always stays, owners change each other. The command line of the machine can do everything.
fn is_signed_in_as(app: &Shared, who: &Who, name: &str) -> bool {
    app.options.authentication && who.by != Some(By::Machine) && who.name == name
}

fn own_account() -> ApiError {
    ApiError::conflict("own-account", "nobody changes the role of their own account or removes it")
        .zh("不能修改自己的角色或删除自己的账号；请让另一位所有者操作，或在本机使用 `sage user`")
        .next("Let another owner do it, or use `sage user` on the machine itself")
}
