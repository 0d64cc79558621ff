//! Who may talk to the server at all, before any handler runs, and what is written down about it.
//!
//! A browser sends requests on behalf of any page somebody has open, so being on loopback protects nothing. In this
//! order: the Host must be one of ours (a rebound name is not), an Origin must be that Host, other sites may not call
//! `/api`, where authentication is on a session or token is needed, a cookie alone changes nothing there unless the
//! browser says that our own page asks, and [`access`] says what the route needs. No CORS header is ever sent.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    RequestPartsExt,
    extract::{MatchedPath, RawPathParams, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use domain::TaskId;
use jiff::Timestamp;
use store::{By, Entry, Role};

use crate::{
    access::{self, Need, Rule},
    app::{App, Shared},
    audit::About,
    auth::{self, Caller, Who},
    bodies,
    connections::Peer,
    error::{ApiError, ErrorCode, Result, blocking},
    revoked,
};

/// How long an answer may take to begin, uploads aside.
const PATIENCE: Duration = Duration::from_secs(300);

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Sent by our page and scripts with what changes something: no other page can send it without asking first.
const X_SAGE: HeaderName = HeaderName::from_static("x-sage");

/// Lower-case `host:port` values that the Host header may have.
pub fn allowed_hosts(listening: &[SocketAddr], extra: &[String]) -> Vec<String> {
    let mut hosts: Vec<String> =
        extra.iter().flat_map(|host| [80, 443].map(|port| normal_authority(host, port))).collect();
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

pub async fn guard(State((app, hosts)): State<(Shared, Arc<[String]>)>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let rule = access::rule(request.method(), matched(&request));
    let api = is_api(request.uri().path());
    let target = target(&request);
    // Listens from before the look at it, so that no change falls between.
    let watch = revoked::Watch::of(&app, request.headers());
    let mut caller = None;
    let mut response = match admit(&app, &hosts, rule, request, &mut caller).await {
        Ok(request) => answer(&app, rule, request, next).await,
        Err(error) => error.into_response(),
    };
    if revoked::is_live(&response)
        && let (Some(watch), Some(who)) = (watch, &caller)
    {
        response = watch.over(&app, who.clone(), response);
    }
    if rule.action.is_some_and(|action| action.starts_with("account.") || matches!(action, "token.revoke" | "sign-out"))
    {
        app.credentials.send_replace(());
    }
    if let Some(entry) = entry(rule, caller.as_ref(), peer, target, &response) {
        // What happens to tasks is in the journal as well, and comes by the thousand.
        if entry.action.starts_with("task.") { app.audit.note(entry) } else { app.audit.record(entry).await }
    }
    let mut response = hardened(response, app.options.hsts && peer.is_some_and(|peer| peer.tls));
    if api {
        // What one person may see must not wait in a cache for the next.
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

/// `caller` is known to the audit log also where the request is refused in the end.
async fn admit(
    app: &Shared,
    hosts: &[String],
    rule: Rule,
    mut request: Request,
    caller: &mut Option<Who>,
) -> Result<Request> {
    let tls = request.extensions().get::<Peer>().is_some_and(|peer| peer.tls);
    let host = host(&request, hosts, tls)?;
    let origin = origin(request.headers(), &host, &app.options.allowed_origins, tls)?;
    if is_api(request.uri().path()) {
        let site = fetch_site(request.headers(), origin == Origin::Listed)?;
        if changes_something(request.method()) || app.options.authentication || rule.need == Need::Admin {
            *caller = auth::identify(app, request.headers()).await?;
        }
        if let Some(access) = rule.need.access()
            && app.options.authentication
        {
            let who = caller.as_ref().ok_or_else(|| ApiError::unauthorized("Not authenticated"))?;
            if changes_something(request.method()) {
                cookie_is_from_our_page(request.headers(), origin, site)?;
            }
            if who.access < access {
                return Err(not_allowed(who, access));
            }
            let any = match rule.need {
                Need::OwnTask => who.is_admin(),
                Need::SeeTask => who.role == Role::Owner,
                _ => true,
            };
            if !any {
                request = own_task(app, who, request).await?;
            }
        }
        if let Some(who) = caller {
            request.extensions_mut().insert(Caller(who.clone()));
        }
    }
    body_length(&request, app.options.upload_limit)?;
    Ok(request)
}

/// Runs the handler, unless too many are running or it takes for ever.
async fn answer(app: &App, rule: Rule, request: Request, next: Next) -> Response {
    let upload = bodies::is_upload(request.method(), request.uri().path());
    let request = match bodies::received(app, rule.need, request).await {
        Ok(request) => request,
        Err(error) => return error.into_response(),
    };
    let turns = if upload { &app.uploading } else { &app.answering };
    let Ok(_turn) = turns.try_acquire() else { return bodies::busy().into_response() };
    if upload {
        return next.run(request).await;
    }
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::unavailable("too-slow", format!("this took more than {} seconds", PATIENCE.as_secs()))
            .zh(format!("处理超过 {} 秒，已中止", PATIENCE.as_secs()))
            .next("Try again when the machine is less busy")
            .into_response(),
    }
}

/// What the audit log says about a request, if it changed something or tried to.
fn entry(
    rule: Rule,
    caller: Option<&Who>,
    peer: Option<Peer>,
    target: Option<String>,
    response: &Response,
) -> Option<Entry> {
    let action = rule.action?;
    let about = response.extensions().get::<About>().cloned().unwrap_or_default();
    let outcome = response.extensions().get::<ErrorCode>().map_or("ok", |ErrorCode(code)| code);
    let who = about.who.or_else(|| caller.map(|who| who.name.clone()));
    // Anybody can be refused as often as they like, so only what somebody did or tried to sign in with is kept.
    if who.is_none() && outcome != "ok" {
        return None;
    }
    let by = caller.and_then(|who| who.by).and_then(|by| match by {
        By::Token { id, .. } => Some(format!("token {id}")),
        By::Session | By::Machine => None,
    });
    let detail = [about.detail, by].into_iter().flatten().collect::<Vec<_>>().join("; ");
    Some(Entry {
        at: Timestamp::now(),
        who: who.unwrap_or_else(|| "-".into()),
        address: peer.map_or_else(|| "-".into(), |peer| peer.address.ip().to_canonical().to_string()),
        action: action.into(),
        target: about.target.or(target),
        outcome: outcome.to_owned(),
        detail: Some(detail).filter(|detail| !detail.is_empty()),
    })
}

pub fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

fn changes_something(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The pattern of the route, `None` for what is no route.
fn matched(request: &Request) -> Option<&str> {
    request.extensions().get::<MatchedPath>().map(MatchedPath::as_str)
}

/// What the path names: its last part that the route's pattern leaves open.
fn target(request: &Request) -> Option<String> {
    let parts = matched(request)?.split('/').zip(request.uri().path().split('/'));
    let open = parts.filter(|(pattern, _)| pattern.starts_with('{')).last();
    open.map(|(_, part)| part.chars().take(200).collect())
}

/// The one Host of the request, if it is ours.
fn host(request: &Request, hosts: &[String], tls: bool) -> Result<String> {
    let refuse = || {
        ApiError::new(StatusCode::MISDIRECTED_REQUEST, "host", "this Host is not served here")
            .zh("不接受该主机名；请使用 `sage studio status` 显示的地址，或把主机名加入 hosts 设置")
            .next("Use the address that `sage studio status` prints, or add the name to the allowed hosts")
    };
    let port = if tls { 443 } else { 80 };
    let host = only(request.headers(), header::HOST).ok_or_else(refuse)?.ok_or_else(refuse)?;
    let host = normal_authority(host, port);
    let target = request.uri().authority().map(|authority| normal_authority(authority.as_str(), port));
    if !hosts.contains(&host) || target.is_some_and(|target| target != host) {
        return Err(refuse());
    }
    Ok(host)
}

/// Which page asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The request does not say.
    Unknown,
    Ours,
    /// One that the settings let in.
    Listed,
}

fn origin(headers: &HeaderMap, host: &str, allowed: &[String], tls: bool) -> Result<Origin> {
    let refuse = || {
        ApiError::new(StatusCode::FORBIDDEN, "origin", "this page is not allowed to use the studio")
            .zh("该页面不允许使用 Studio；请打开 Studio 自己的页面，或把该页面的来源加入 allowed_origins")
            .next("Open the studio's own page, or add the page's origin to allowed_origins")
    };
    match only(headers, header::ORIGIN) {
        None => Err(refuse()),
        Some(None) => Ok(Origin::Unknown),
        Some(Some(origin)) => {
            if allowed.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
                return Ok(Origin::Listed);
            }
            let authority = match origin.strip_prefix("https://") {
                // Without TLS of our own, a proxy in front of us may have it.
                Some(authority) => Some(normal_authority(authority, if tls { 443 } else { 80 })),
                None => origin.strip_prefix("http://").filter(|_| !tls).map(|rest| normal_authority(rest, 80)),
            };
            if authority.is_some_and(|authority| authority == host) { Ok(Origin::Ours) } else { Err(refuse()) }
        }
    }
}

/// Browsers say where a request comes from even where they send no Origin. True if this is our own page, or nobody's.
fn fetch_site(headers: &HeaderMap, listed_origin: bool) -> Result<bool> {
    match only(headers, SEC_FETCH_SITE) {
        Some(Some("same-origin" | "none")) => Ok(true),
        Some(None) => Ok(false),
        // Another port of this machine is the same site and another program.
        Some(Some("same-site")) if listed_origin => Ok(true),
        _ => Err(ApiError::new(StatusCode::FORBIDDEN, "cross-site", "other sites may not call the studio's API")
            .zh("其他站点不能调用 Studio 的接口；请打开 Studio 自己的页面")
            .next("Open the studio's own page")),
    }
}

/// A browser adds the cookie to whatever any page sends. So who is known by nothing else has to show that one of our
/// pages asks: by the header X-Sage, or by what the browser itself says.
fn cookie_is_from_our_page(headers: &HeaderMap, origin: Origin, same_site: bool) -> Result<()> {
    if !auth::only_by_cookie(headers) || headers.contains_key(X_SAGE) || same_site || origin != Origin::Unknown {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, "x-sage", "a cookie alone changes nothing: the header X-Sage is missing")
        .zh("仅凭 Cookie 不能修改数据：缺少请求头 X-Sage")
        .next("Send `X-Sage: 1` with it, or a token as `Authorization: Bearer …` instead of the cookie"))
}

fn not_allowed(who: &Who, needed: store::Access) -> ApiError {
    let (role, access, needed) = (who.role.as_str(), who.access.as_str(), needed.as_str());
    ApiError::new(
        StatusCode::FORBIDDEN,
        "not-allowed",
        format!("this needs {needed} access; {} has {access} access as {role}", who.name),
    )
    .zh(format!(
        "此操作需要 {needed} 权限，{}（{role}）只有 {access} 权限；请联系所有者，或使用权限足够的令牌",
        who.name
    ))
    .next("Ask an owner of the studio, or use a token whose scope is wide enough")
}

/// Lets a task's own owner through. What cannot be read as a task's id is no task.
async fn own_task(app: &Shared, who: &Who, request: Request) -> Result<Request> {
    let (mut parts, body) = request.into_parts();
    let params = parts.extract::<RawPathParams>().await.map_err(|_| ApiError::task_not_found())?;
    let id = params.iter().find(|(name, _)| *name == "id").and_then(|(_, text)| text.parse::<TaskId>().ok());
    let id = id.ok_or_else(ApiError::task_not_found)?;
    let looking = app.clone();
    let task = blocking(move || Ok(looking.engine.task(id)?)).await?.ok_or_else(ApiError::task_not_found)?.task;
    if task.owner != who.name {
        let detail = format!("task {id} belongs to {}", task.owner);
        return Err(ApiError::new(StatusCode::FORBIDDEN, "not-yours", detail)
            .zh(format!("任务 {id} 属于 {}，只有其本人或所有者可以操作", task.owner))
            .next("Ask them, or an owner of the studio"));
    }
    Ok(Request::from_parts(parts, body))
}

/// A body that announces its length is refused before it is sent.
fn body_length(request: &Request, upload_limit: u64) -> Result<()> {
    let limit = bodies::limit(request.method(), request.uri().path(), upload_limit);
    let length = only(request.headers(), header::CONTENT_LENGTH).flatten().and_then(|length| length.parse().ok());
    match length {
        Some(length) if limit < length => Err(ApiError::too_large(limit)),
        _ => Ok(()),
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

/// Lower case, with the port that is left out.
fn normal_authority(authority: &str, default_port: u16) -> String {
    let authority = authority.to_ascii_lowercase();
    let after_address = authority.rsplit_once(']').map_or(authority.as_str(), |(_, rest)| rest);
    if after_address.contains(':') { authority } else { format!("{authority}:{default_port}") }
}

/// `hsts`: this host is to be reached with TLS only.
fn hardened(mut response: Response, hsts: bool) -> Response {
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if hsts {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    // The page brings its own; nothing else is there to be shown.
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
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
        let has = |host: &str| hosts.contains(&normal_authority(host, 80));
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
        assert!(hosts.contains(&normal_authority("studio.example", 443)), "with TLS the port left out is another");
    }

    #[test]
    fn only_with_tls_browsers_are_told_to_use_nothing_else() {
        let header = |hsts| {
            let response = hardened(Response::new(axum::body::Body::empty()), hsts);
            response.headers().get(header::STRICT_TRANSPORT_SECURITY).cloned()
        };
        assert_eq!(header(false), None);
        assert_eq!(header(true).unwrap(), "max-age=31536000");
    }

    #[test]
    fn a_page_without_tls_is_another_page_than_ours_with_it() {
        let ask = |origin: &str, host: &str, tls: bool| {
            let headers = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_str(origin).unwrap())]);
            super::origin(&headers, host, &[], tls).ok()
        };
        assert_eq!(ask("https://gpu.lan", "gpu.lan:443", true), Some(Origin::Ours));
        assert_eq!(ask("https://gpu.lan:8080", "gpu.lan:8080", true), Some(Origin::Ours));
        assert_eq!(ask("http://gpu.lan:8080", "gpu.lan:8080", true), None);
        assert_eq!(ask("https://gpu.lan", "gpu.lan:80", false), Some(Origin::Ours), "behind a proxy");
    }
}
