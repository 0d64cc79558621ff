use api_types::{CreatedToken, ErrorBody, NewToken, TokenView};
use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderName, StatusCode, header},
};
use serde::Deserialize;
use store::{Access, By};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::Shared,
    audit::About,
    auth::{Caller, Who},
    error::{ApiError, Result, blocking},
    extract::{self, Params},
    people,
};

pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListParams {
    /// Everybody's instead of one's own; only for owners.
    #[serde(default)]
    all: bool,
}

/// Tokens, oldest first
#[utoipa::path(get, path = "/api/v1/tokens", operation_id = "list_tokens", tag = "accounts", params(ListParams), responses(
    (status = 200, body = [TokenView]),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
async fn list(
    State(app): State<Shared>,
    Caller(who): Caller,
    Params(ListParams { all }): Params<ListParams>,
) -> Result<Json<Vec<TokenView>>> {
    if all && !who.is_admin() {
        return Err(others_tokens());
    }
    let of = (!all).then_some(who.name);
    blocking(move || people::tokens(&app.accounts, of.as_deref()).map(Json)).await
}

/// Make a token
///
/// The secret is in this answer and nowhere else. A token cannot do more than whoever makes it.
#[utoipa::path(post, path = "/api/v1/tokens", operation_id = "create_token", tag = "accounts", request_body = NewToken, responses(
    (status = 201, body = CreatedToken),
    (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "Too many tokens", body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
async fn create(
    State(app): State<Shared>,
    Caller(who): Caller,
    extract::Json(token): extract::Json<NewToken>,
) -> Result<(StatusCode, [(HeaderName, &'static str); 1], Extension<About>, Json<CreatedToken>)> {
    let account = token.account.clone().unwrap_or_else(|| who.name.clone());
    if account != who.name && !who.is_admin() {
        return Err(others_tokens());
    }
    let most = may_make(&who)?;
    let created = blocking(move || people::create_token(&app.accounts, &account, token, most)).await?;
    let CreatedToken { token, .. } = &created;
    let about = About {
        detail: Some(format!("{} for {}, scope {}", token.name, token.account, token.scope)),
        ..About::target(token.id.to_string())
    };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Extension(about), Json(created)))
}

/// Revoke a token
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", operation_id = "revoke_token", tag = "accounts", params(("id" = i64, Path)), responses(
    (status = 204),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn revoke(
    State(app): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Extension<About>)> {
    let of = (!who.is_admin()).then(|| who.name.clone());
    // What is no number is no token.
    let id = id.parse().unwrap_or(-1);
    let token = blocking(move || people::revoke_token(&app.accounts, id, of.as_deref())).await?;
    let detail = Some(format!("{} of {}", token.name, token.account));
    Ok((StatusCode::NO_CONTENT, Extension(About { detail, ..About::default() })))
}

/// A token that leaks must not be able to live on in others, so only those that can do everything make tokens.
fn may_make(who: &Who) -> Result<Access> {
    match who.by {
        Some(By::Token { scope, .. }) if scope < Access::Admin => {
            Err(ApiError::new(StatusCode::FORBIDDEN, "needs-session", "a token of this scope makes no tokens")
                .zh("此范围的令牌不能创建令牌；请登录后再创建")
                .next("Sign in, or use a token of scope admin"))
        }
        _ => Ok(who.access),
    }
}

fn others_tokens() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "not-allowed", "only owners deal with other people's tokens")
        .zh("只有所有者可以管理他人的令牌")
        .next("Ask an owner of the studio")
}
