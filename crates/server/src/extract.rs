//! Extractors whose refusals are [`ApiError`]s.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Multipart, Path, Query, Request, rejection::BytesRejection},
    http::{StatusCode, header, request::Parts},
    response::IntoResponse,
};
use domain::TaskId;
use serde::de::DeserializeOwned;

use crate::{
    app::Shared,
    bodies,
    error::{ApiError, Result},
};

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Json<T>> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        // Also keeps out forms that other pages can send without asking.
        if !content_type.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("application/json")) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not-json",
                "the body must be JSON with Content-Type: application/json",
            )
            .zh("请求体必须是 JSON，并带有 Content-Type: application/json"));
        }
        let body = Bytes::from_request(request, app).await.map_err(body_error)?;
        serde_json::from_slice(&body).map(Json).map_err(|error| unreadable(&format!("the body: {error}")))
    }
}

/// What the parsers say themselves is English.
pub fn unreadable(reason: &str) -> ApiError {
    ApiError::invalid(reason, format!("无法读取请求内容：{reason}"))
}

pub fn body_error(error: BytesRejection) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::too_large(bodies::BODY_LIMIT);
    }
    broken_off(&error.body_text())
}

pub fn broken_off(reason: &str) -> ApiError {
    ApiError::bad_request("body", reason).zh(format!("请求体没有完整收到：{reason}；请重新发送"))
}

/// The `{id}` of a path; what is no task id is no task.
pub struct Id(pub TaskId);

impl FromRequestParts<Shared> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Id> {
        let Path(text) =
            Path::<String>::from_request_parts(parts, app).await.map_err(|_| ApiError::task_not_found())?;
        text.parse().map(Id).map_err(|_| ApiError::task_not_found())
    }
}

/// The query string.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Params<T>> {
        let query = Query::from_request_parts(parts, app).await;
        query.map(|Query(params)| Params(params)).map_err(|error| unreadable(&error.body_text()))
    }
}

/// Turns the router's own plain refusals into the shape that all errors have.
pub async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method Not Allowed").zh("该地址不支持这个方法")
}

pub async fn no_such_route() -> impl IntoResponse {
    ApiError::not_found("Not Found").zh("没有这个地址").next("GET /api/openapi.json lists the routes")
}

/// A multipart form.
pub struct Form(pub Multipart);

impl FromRequest<Shared> for Form {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Form> {
        let form = Multipart::from_request(request, app).await;
        form.map(Form).map_err(|error| {
            unreadable(&error.body_text()).next("Send the data set as the field `file` of a multipart form")
        })
    }
}
