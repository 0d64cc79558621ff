//! Who may talk to the server at all, before any handler runs.
//!
//! A browser sends requests on behalf of any page somebody has open, so being on loopback protects nothing. In this
//! order: the Host must be one of ours (a rebound name is not), an Origin must be that Host, other sites may not call
//! `/api`, and where authentication is on a session is needed. No CORS header is ever sent.

use std::net::SocketAddr;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    app::Shared,
    auth,
    error::{ApiError, Result},
};

/// Largest body of a request that is not an upload, in bytes.
pub const BODY_LIMIT: u64 = 1 << 20;
/// Largest pasted data set, in bytes of JSON.
pub const PASTE_LIMIT: u64 = 32 << 20;
/// What multipart adds to a file.
pub const MULTIPART_OVERHEAD: u64 = 64 << 10;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Open to everybody who passed the Host and Origin checks, also where authentication is on.
const PUBLIC: [&str; 3] = ["/api/auth/login", "/api/auth/guest", "/api/auth/logout"];

/// Lower-case `host:port` values that the Host header may have.
pub fn allowed_hosts(listening: &[SocketAddr], extra: &[String]) -> Vec<String> {
    let mut hosts: Vec<String> = extra.iter().map(|host| normal_authority(host)).collect();
    for address in listening {
        let port = address.port();
        hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(|host| format!("{host}:{port}")));
        if !address.ip().is_unspecified() {
            hosts.push(address.to_string());
        }
    }
    hosts.sort();
    hosts.dedup();
    hosts
}

pub async fn guard(
    State((app, hosts)): State<(Shared, std::sync::Arc<[String]>)>,
    request: Request,
    next: Next,
) -> Response {
    let response = match admit(&app, &hosts, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    hardened(response)
}

async fn admit(app: &Shared, hosts: &[String], mut request: Request) -> Result<Request> {
    let host = host(&request, hosts)?;
    let listed = origin(request.headers(), &host, &app.options.allowed_origins)?;
    let path = request.uri().path();
    if is_api(path) {
        fetch_site(request.headers(), listed)?;
        if app.options.authentication && !PUBLIC.contains(&path) {
            let caller = auth::session(app, request.headers())
                .await?
                .ok_or_else(|| ApiError::unauthorized("Not authenticated"))?;
            request.extensions_mut().insert(auth::Caller(caller.username.clone()));
            request.extensions_mut().insert(caller);
        }
    }
    body_length(&request, app.options.upload_limit)?;
    Ok(request)
}

pub fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// The one Host of the request, if it is ours.
fn host(request: &Request, hosts: &[String]) -> Result<String> {
    let refuse = || {
        ApiError::new(StatusCode::MISDIRECTED_REQUEST, "host", "this Host is not served here")
            .next("Use the address that `sage studio status` prints, or add the name to the allowed hosts")
    };
    let host = only(request.headers(), header::HOST).ok_or_else(refuse)?.ok_or_else(refuse)?;
    let host = normal_authority(host);
    let target = request.uri().authority().map(|authority| normal_authority(authority.as_str()));
    if !hosts.contains(&host) || target.is_some_and(|target| target != host) {
        return Err(refuse());
    }
    Ok(host)
}

/// True if the request comes from a page that the settings let in.
fn origin(headers: &HeaderMap, host: &str, allowed: &[String]) -> Result<bool> {
    let refuse = || {
        ApiError::new(StatusCode::FORBIDDEN, "origin", "this page is not allowed to use the studio")
            .next("Open the studio's own page, or add the page's origin to allowed_origins")
    };
    match only(headers, header::ORIGIN) {
        None => Err(refuse()),
        Some(None) => Ok(false),
        Some(Some(origin)) => {
            if allowed.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
                return Ok(true);
            }
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            match authority {
                Some(authority) if normal_authority(authority) == host => Ok(false),
                _ => Err(refuse()),
            }
        }
    }
}

/// Browsers say where a request comes from even where they send no Origin.
fn fetch_site(headers: &HeaderMap, listed_origin: bool) -> Result<()> {
    let foreign = match only(headers, SEC_FETCH_SITE) {
        Some(None | Some("same-origin" | "none")) => false,
        // Another port of this machine is the same site and another program.
        Some(Some("same-site")) => !listed_origin,
        _ => true,
    };
    if foreign {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "cross-site", "other sites may not call the studio's API")
            .next("Open the studio's own page"));
    }
    Ok(())
}

/// A body that announces its length is refused before it is sent.
fn body_length(request: &Request, upload_limit: u64) -> Result<()> {
    let limit = body_limit(request.method(), request.uri().path(), upload_limit);
    let length = only(request.headers(), header::CONTENT_LENGTH).flatten().and_then(|length| length.parse().ok());
    match length {
        Some(length) if limit < length => Err(ApiError::too_large(limit)),
        _ => Ok(()),
    }
}

fn body_limit(method: &Method, path: &str, upload_limit: u64) -> u64 {
    match path {
        "/api/v1/datasets" | "/api/finetune/upload-dataset" if method == Method::POST => {
            upload_limit.saturating_add(MULTIPART_OVERHEAD)
        }
        "/api/v1/datasets/paste" => PASTE_LIMIT,
        _ => BODY_LIMIT,
    }
}

/// `None` if the header is there more than once or is not text, `Some(None)` if it is not there.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<Option<&str>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Some(None),
        (Some(value), None) => value.to_str().ok().map(Some),
        _ => None,
    }
}

/// Lower case, with the port that is left out for http.
fn normal_authority(authority: &str) -> String {
    let authority = authority.to_ascii_lowercase();
    let after_address = authority.rsplit_once(']').map_or(authority.as_str(), |(_, rest)| rest);
    if after_address.contains(':') { authority } else { authority + ":80" }
}

fn hardened(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_carry_their_port_and_ours_is_the_default_one_of_http() {
        let listening = ["127.0.0.1:8080", "127.0.0.1:80", "10.0.0.7:4200", "0.0.0.0:4300"];
        let listening = listening.map(|address| address.parse().unwrap());
        let hosts = allowed_hosts(&listening, &["Studio.Example".into(), "gpu:9000".into()]);
        let has = |host: &str| hosts.contains(&normal_authority(host));
        for host in [
            "localhost:8080",
            "LOCALHOST:8080",
            "[::1]:8080",
            "localhost",
            "10.0.0.7:4200",
            "studio.example",
            "gpu:9000",
            "127.0.0.1:4300",
        ] {
            assert!(has(host), "{host}");
        }
        for host in ["localhost:8081", "gpu", "studio.example:8080", "10.0.0.7:8080", "0.0.0.0:4300", "[::1]", ""] {
            let ours = host == "[::1]"; // port 80 is served
            assert_eq!(has(host), ours, "{host}");
        }
    }
}
