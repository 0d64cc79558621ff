use std::{env, fs, net::IpAddr};

use ureq::tls::{PemItem, RootCerts, parse_pem};

use crate::{ClientError, Result};

/// A studio of another machine or another user, named by `SAGE_URL`, with the token in `SAGE_TOKEN`. `SAGE_CA_FILE` names
/// certificates to trust instead of the public ones.
pub struct Remote {
    /// Without a slash at the end.
    pub address: String,
    pub token: Option<String>,
    pub authorities: Option<RootCerts>,
}

impl Remote {
    pub fn from_env() -> Result<Option<Remote>> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let Some(url) = variable("SAGE_URL") else { return Ok(None) };
        let address = checked(&url)?;
        let authorities = variable("SAGE_CA_FILE").map(|path| authorities(&path)).transpose()?;
        Ok(Some(Remote { address, token: variable("SAGE_TOKEN"), authorities }))
    }
}

/// A token goes over the network only with TLS.
fn checked(url: &str) -> Result<String> {
    let refuse = |reason: &str| Err(ClientError::Address { url: url.to_owned(), reason: reason.to_owned() });
    let address = url.trim_end_matches('/');
    if address.chars().any(|letter| letter.is_whitespace() || letter.is_control() || matches!(letter, '@' | '?' | '#'))
    {
        return refuse("it is not an address such as https://gpu.example:8080");
    }
    if address.strip_prefix("https://").is_some_and(|rest| !rest.is_empty()) {
        return Ok(address.to_owned());
    }
    let Some(authority) = address.strip_prefix("http://") else {
        return refuse("it begins with neither https:// nor http://");
    };
    let host = authority.split('/').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if loopback { Ok(address.to_owned()) } else { refuse("http:// would send the token over the network unencrypted") }
}

fn authorities(path: &str) -> Result<RootCerts> {
    let unreadable = |source| ClientError::File { path: path.into(), source };
    let pem = fs::read(path).map_err(unreadable)?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(unreadable(std::io::Error::other(error)))),
        })
        .collect::<Result<_>>()?;
    if certificates.is_empty() {
        return Err(unreadable(std::io::Error::other("it holds no certificate")));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_in_the_clear_to_this_machine_only() {
        for good in [
            "https://gpu.example",
            "https://gpu:8443/",
            "http://localhost:8080",
            "http://127.0.0.1:1",
            "http://[::1]:8080",
        ] {
            assert_eq!(checked(good).unwrap(), good.trim_end_matches('/'));
        }
        for bad in [
            "http://gpu.example",
            "http://10.0.0.1:8080",
            "http://localhost.evil.example",
            "gpu:8080",
            "https://",
            "http://localhost@evil.example",
            "ftp://localhost",
        ] {
            assert!(matches!(checked(bad), Err(ClientError::Address { .. })), "{bad}");
        }
    }
}
