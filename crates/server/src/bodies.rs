//! Bodies of requests: how large they may be, and how long they may take to come.
//!
//! Whoever sends slowly holds a place. So what is no upload is received whole before it takes a place among the requests
//! that are answered, within seconds; and those whom nobody knows yet have places of their own, a few for each address.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{Method, StatusCode},
};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::{
    access::Need,
    app::App,
    connections::Peer,
    error::{ApiError, Result},
    extract, shares,
};

/// Largest body of a request that is not an upload, in bytes.
pub const BODY_LIMIT: u64 = 1 << 20;
/// Largest pasted data set, in bytes of JSON.
pub const PASTE_LIMIT: u64 = 32 << 20;
/// What multipart adds to a file.
pub const MULTIPART_OVERHEAD: u64 = 64 << 10;

/// For a whole body of [`BODY_LIMIT`], and of [`PASTE_LIMIT`].
const PATIENCE: Duration = Duration::from_secs(15);
const PASTE_PATIENCE: Duration = Duration::from_secs(120);

pub fn is_upload(method: &Method, path: &str) -> bool {
    method == Method::POST && matches!(path, "/api/v1/datasets" | "/api/finetune/upload-dataset")
}

pub fn limit(method: &Method, path: &str, upload_limit: u64) -> u64 {
    match path {
        _ if is_upload(method, path) => upload_limit.saturating_add(MULTIPART_OVERHEAD),
        "/api/v1/datasets/paste" => PASTE_LIMIT,
        _ => BODY_LIMIT,
    }
}

/// The request with its whole body; an upload's is its handler's to read.
pub async fn received(app: &App, need: Need, request: Request) -> Result<Request> {
    let (method, path) = (request.method(), request.uri().path());
    if is_upload(method, path) || request.body().is_end_stream() {
        return Ok(request);
    }
    let limit = limit(method, path, app.options.upload_limit);
    let patience = if limit > BODY_LIMIT { PASTE_PATIENCE } else { PATIENCE };
    let peer = request.extensions().get::<Peer>().and_then(|peer| shares::outsider(peer.address.ip()));
    let stranger = need == Need::Nobody;
    let _share = match peer.filter(|_| stranger) {
        Some(address) => Some(app.strangers.take(address).ok_or_else(busy)?),
        None => None,
    };
    let places = if stranger { &app.receiving_strangers } else { &app.receiving };
    let _place = places.try_acquire().map_err(|_| busy())?;
    let (parts, body) = request.into_parts();
    Ok(Request::from_parts(parts, Body::from(whole(body, limit, patience).await?)))
}

async fn whole(body: Body, limit: u64, patience: Duration) -> Result<Bytes> {
    let receive = async {
        let mut stream = body.into_data_stream();
        let mut whole = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| extract::broken_off(&format!("the body broke off: {error}")))?;
            if (whole.len() + chunk.len()) as u64 > limit {
                return Err(ApiError::too_large(limit));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    };
    timeout(patience, receive).await.unwrap_or_else(|_| Err(stalled(patience)))
}

fn stalled(patience: Duration) -> ApiError {
    let seconds = patience.as_secs();
    let detail = format!("the body did not come within {seconds} seconds");
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "body-stalled", detail)
        .zh(format!("请求体未在 {seconds} 秒内传完，已中止；请检查网络后重试"))
        .next("Check the network, then send it again")
}

pub fn busy() -> ApiError {
    ApiError::unavailable("busy", "too many requests at once")
        .zh("同时处理的请求过多，请稍后重试")
        .next("Try again in a moment")
        .retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_comes_whole_in_time_or_not_at_all() {
        let drops = |every: u64, count: usize| {
            let bytes = stream::repeat(Bytes::from_static(b"1234")).take(count);
            Body::from_stream(bytes.then(move |chunk| async move {
                sleep(Duration::from_secs(every)).await;
                Ok::<_, Infallible>(chunk)
            }))
        };
        let receive = async |body| whole(body, 16, PATIENCE).await.map_err(|error| error.code);
        assert_eq!(receive(drops(1, 3)).await, Ok(Bytes::from_static(b"123412341234")));
        assert_eq!(receive(drops(10, 3)).await, Err("body-stalled".into()));
        assert_eq!(receive(drops(0, 5)).await, Err("too-large".into()));
    }
}
