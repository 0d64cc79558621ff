use std::{env, fs, net::IpAddr};

use ureq::tls::{PemItem, RootCerts, parse_pem};

use crate::{ClientError, Result};

/// A studio of another machine or another user, named by `SAGE_URL`, with the token in `SAGE_TOKEN`. `SAGE_CA_FILE` names
/// certificates to trust instead of the public ones. Without TLS the token goes to a port of this machine only, and only
/// if none but this user or root listens there, as the end of an SSH tunnel does; `SAGE_TRUST_PORT=1` says that whoever
/// listens may have it.
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
        let token = variable("SAGE_TOKEN");
        if let (Some(port), Some(_), None) = (plain_port(&address), &token, variable("SAGE_TRUST_PORT")) {
            ours(&url, port)?;
        }
        let authorities = variable("SAGE_CA_FILE").map(|path| authorities(&path)).transpose()?;
        Ok(Some(Remote { address, token, authorities }))
    }
}

/// Of an address without TLS.
fn plain_port(address: &str) -> Option<u16> {
    let authority = address.strip_prefix("http://")?.split('/').next()?;
    let after = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    after.rsplit_once(':').map_or(Some(80), |(_, port)| port.parse().ok())
}

/// Any program of any user can listen on a port, and would be handed the token.
fn ours(url: &str, port: u16) -> Result<()> {
    let me = rustix::process::geteuid().as_raw();
    let refuse = |reason: String| Err(ClientError::Address { url: url.to_owned(), reason });
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // A kernel without IPv6 has no such table; one without the other has no ports to be looked at.
        let table = match fs::read_to_string(table) {
            Ok(table) => table,
            Err(_) if table.ends_with('6') => continue,
            Err(error) => return refuse(format!("who listens on port {port} cannot be told: {error}")),
        };
        if let Some(user) = listeners(&table, port).find(|user| *user != me && *user != 0) {
            return refuse(format!(
                "user {user}, who is not you ({me}), listens on port {port} and would get the token"
            ));
        }
    }
    Ok(())
}

/// The users whose programs listen on this port, by a table such as `/proc/net/tcp`.
fn listeners(table: &str, port: u16) -> impl Iterator<Item = u32> {
    const LISTENING: &str = "0A";
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, user) = (fields.get(1)?, fields.get(3)?, fields.get(7)?);
        let listens = *state == LISTENING && u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()? == port;
        listens.then(|| user.parse().ok())?
    })
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
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_token_goes_to_a_port_of_ones_own_only() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1234        0 1 1 0\n   \
                     1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  4321        0 2 1 0\n   \
                     2: 00000000:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0\n";
        let users = |port| listeners(table, port).collect::<Vec<_>>();
        assert_eq!((users(8080), users(8081), users(8082), users(1)), (vec![1234], vec![], vec![0], vec![]));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        ours("http://localhost", port).unwrap();
        let me = rustix::process::geteuid().as_raw();
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        assert_eq!(listeners(&table, port).collect::<Vec<_>>(), [me], "it is found at all");
        for (address, port) in [
            ("http://localhost:8080", Some(8080)),
            ("http://[::1]:81/x", Some(81)),
            ("http://127.0.0.1", Some(80)),
            ("https://localhost:8080", None),
        ] {
            assert_eq!(plain_port(address), port, "{address}");
        }
    }

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
