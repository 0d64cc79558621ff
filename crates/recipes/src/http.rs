//! Plain HTTP requests that never show a secret to the wrong host.

use std::sync::Arc;
use std::time::Duration;

use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Error};

const MOST_REDIRECTS: usize = 10;
const CONNECT: Duration = Duration::from_secs(15);
/// A connection on which nothing comes for so long is broken.
const SILENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    agent: Agent,
}

/// A request that got no answer.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    pub host: String,
    /// Never has an address in it: those of redirects may be signed.
    pub reason: String,
}

/// Headers that are a secret between us and one origin.
pub(crate) type Secrets<'a> = &'a [(&'static str, String)];

impl Client {
    pub fn new() -> Client {
        let tls = TlsConfig::builder().root_certs(root_certificates()).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("sage-studio/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Redirects are followed here, where it is known who may see the secrets.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .build();
        Client { agent: config.into() }
    }

    /// Answers whatever comes that is not a redirect. Only the origin of `url` gets the secrets.
    pub fn get(&self, url: &str, headers: &[(&str, String)], secrets: Secrets<'_>) -> Result<Response<Body>, NoAnswer> {
        let mut uri: Uri = url.parse().map_err(|_| no_answer(None, "the address is not valid"))?;
        let origin = origin(&uri);
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.agent.get(&uri);
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if self::origin(&uri) == origin {
                for (name, value) in secrets {
                    request = request.header(*name, value);
                }
            }
            // A proxy of the environment knows nothing of this machine's own servers.
            let request = if is_loopback(&uri) { request.config().proxy(None).build() } else { request };
            let response = request.call().map_err(|error| no_answer(Some(&uri), &reason(&error)))?;
            let Some(target) = redirect(&response) else { return Ok(response) };
            let next = target
                .and_then(|target| join(&uri, target))
                .ok_or_else(|| no_answer(Some(&uri), "a broken redirect"))?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(no_answer(Some(&uri), "it redirects to an unencrypted address"));
            }
            uri = next;
        }
        Err(no_answer(Some(&uri), "too many redirects"))
    }
}

/// The host of an address, for messages.
pub(crate) fn host(url: &str) -> String {
    let uri = url.parse::<Uri>().ok();
    uri.as_ref().and_then(Uri::host).unwrap_or(url).to_owned()
}

/// What went wrong, without the address.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::Io(error) => error.to_string(),
        Error::Timeout(_) => "it does not answer in time".into(),
        Error::HostNotFound => "the host name is not known".into(),
        Error::ConnectionFailed => "the connection failed".into(),
        Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => "the proxy does not work".into(),
        Error::Rustls(error) => format!("no secure connection: {error}"),
        Error::Tls(error) => format!("no secure connection: {error}"),
        Error::BadUri(_) => "the address is not valid".into(),
        Error::Protocol(_) => "the connection broke off".into(),
        _ => "the request failed".into(),
    }
}

fn no_answer(uri: Option<&Uri>, reason: &str) -> NoAnswer {
    let host = uri.and_then(Uri::host).unwrap_or("the server").to_owned();
    NoAnswer { host, reason: reason.to_owned() }
}

/// The certificates named by `SSL_CERT_FILE`, as behind a company's proxy, else Mozilla's.
fn root_certificates() -> RootCerts {
    let pem = std::env::var_os("SSL_CERT_FILE").and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { RootCerts::WebPki } else { RootCerts::Specific(Arc::new(certificates)) }
}

/// `None`: not a redirect; `Some(None)`: one that leads nowhere.
fn redirect(response: &Response<Body>) -> Option<Option<&str>> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    is_redirect.then(|| response.headers().get("location")?.to_str().ok())
}

/// The address that a redirect from `base` means.
fn join(base: &Uri, target: &str) -> Option<Uri> {
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let target = target.split('#').next()?;
    let absolute = if target.contains("://") {
        target.to_owned()
    } else if target.starts_with("//") {
        format!("{scheme}:{target}")
    } else if target.starts_with('/') {
        format!("{scheme}://{authority}{target}")
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{target}")
    };
    let uri: Uri = absolute.parse().ok()?;
    matches!(uri.scheme_str(), Some("http" | "https")).then_some(uri)
}

fn origin(uri: &Uri) -> (Option<String>, Option<String>, Option<u16>) {
    let lower = |text: &str| text.to_ascii_lowercase();
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    (uri.scheme_str().map(lower), uri.host().map(lower), Some(uri.port_u16().unwrap_or(default)))
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say() {
        let base: Uri = "https://hub.example:8443/a/b?x=1".parse().unwrap();
        let joined = |target: &str| join(&base, target).map(|uri| uri.to_string());
        assert_eq!(joined("https://cdn.example/f?sig=1").unwrap(), "https://cdn.example/f?sig=1");
        assert_eq!(joined("//cdn.example/f").unwrap(), "https://cdn.example/f");
        assert_eq!(joined("/c?y=2").unwrap(), "https://hub.example:8443/c?y=2");
        assert_eq!(joined("c#part").unwrap(), "https://hub.example:8443/a/c");
        assert_eq!(joined("ftp://cdn.example/f"), None);
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| origin(&a.parse().unwrap()) == origin(&b.parse().unwrap());
        assert!(same("https://a.example/x", "https://A.example:443/y"));
        assert!(!same("https://a.example", "http://a.example"));
        assert!(!same("https://a.example", "https://a.example:444"));
        assert!(!same("https://a.example", "https://a.example.evil"));
        assert!(is_loopback(&"http://127.0.0.1:80/".parse().unwrap()));
        assert!(is_loopback(&"http://[::1]:80/".parse().unwrap()));
        assert!(!is_loopback(&"http://localhost.evil/".parse().unwrap()));
    }
}
