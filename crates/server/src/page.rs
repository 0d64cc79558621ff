//! The page and its files, for every path that is not the API's.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use web_assets::Asset;

use crate::{error::ApiError, extract, guard};

/// What stands in the page where the number goes.
const NONCE: &str = "__CSP_NONCE__";

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
        None if path.starts_with("/assets/") => {
            return ApiError::not_found("Not Found").zh("没有这个地址").into_response();
        }
        // A deep link, which the page's own router understands.
        None => return index(),
    };
    if asset.content_type.starts_with("text/html") {
        return index();
    }
    respond(asset, &request)
}

/// The page with a policy of its own: it runs and shows nothing but what came with it. Libraries make styles at run time;
/// a number that is drawn afresh for each answer marks them, so the answer is never kept.
fn index() -> Response {
    let nonce = match getrandom::u64().and_then(|one| Ok((one, getrandom::u64()?))) {
        Ok((one, two)) => format!("{one:016x}{two:016x}"),
        Err(error) => return ApiError::internal("no random numbers", error).into_response(),
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; \
         font-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'"
    );
    let asset = web_assets::index();
    let html = String::from_utf8_lossy(&asset.bytes).replace(NONCE, &nonce);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::try_from(policy).expect("a policy is plain")),
    ];
    (headers, html).into_response()
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
