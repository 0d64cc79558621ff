//! The page and its files, for every path that is not the API's.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use web_assets::Asset;

use crate::{error::ApiError, extract, guard};

pub async fn page(request: Request) -> Response {
    let path = request.uri().path();
    if guard::is_api(path) {
        return extract::no_such_route().await.into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return extract::method_not_allowed().await.into_response();
    }
    let asset = match web_assets::asset(path) {
        Some(asset) => asset,
        // A file of an older build; the page itself would only confuse whoever asked for a script.
        None if path.starts_with("/assets/") => return ApiError::not_found("Not Found").into_response(),
        // A deep link, which the page's own router understands.
        None => web_assets::index(),
    };
    respond(asset, &request)
}

fn respond(asset: Asset, request: &Request) -> Response {
    let caching = if asset.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    let etag = HeaderValue::try_from(&asset.etag).expect("an etag is plain");
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let unchanged =
        known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == asset.etag));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
        (header::ETAG, etag),
    ];
    if unchanged {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let body = match asset.bytes {
        std::borrow::Cow::Borrowed(bytes) => Body::from(bytes),
        std::borrow::Cow::Owned(bytes) => Body::from(bytes),
    };
    (headers, body).into_response()
}
