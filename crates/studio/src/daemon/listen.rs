use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
};

use server::{Listener, Tls};
use tokio::net::TcpListener;

use super::{Ports, TlsFiles, url};
use crate::{
    error::{CliError, Result},
    text::text,
};

pub struct Bound {
    pub listeners: Vec<Listener>,
    /// For programs on this machine: plain HTTP on loopback where there is TLS, because no certificate has that name.
    pub address: String,
    /// For people: of the first listener.
    pub page: String,
    /// The second port is a courtesy, so it may be taken, and TLS may be somebody else's business; this says so.
    pub warning: Option<String>,
}

pub fn certificate(files: &TlsFiles) -> Result<Tls> {
    Tls::load(&files.certificate, &files.key).map_err(|reason| {
        CliError::new(
            "tls-unusable",
            text(
                format!("TLS 证书或私钥无法使用：{reason}"),
                format!("the TLS certificate or key cannot be used: {reason}"),
            ),
        )
        .next(text(
            "检查 tls_cert 和 tls_key：PEM 格式，且运行 Studio 的用户可读",
            "check tls_cert and tls_key: PEM files that the studio's user can read",
        ))
    })
}

pub async fn bind(ports: &Ports, tls: Option<Tls>) -> Result<Bound> {
    let main = SocketAddr::new(ports.listen, ports.port);
    let listener = TcpListener::bind(main).await.map_err(|error| refused(main, &error))?;
    let address = listener.local_addr().map_err(|error| refused(main, &error))?;
    let page = url(if tls.is_some() { "https" } else { "http" }, address);
    let mut listeners = vec![Listener { socket: listener, tls: tls.clone() }];
    let mut warning = (tls.is_none() && !ports.listen.is_loopback()).then(|| {
        text(
            "没有 TLS：密码和令牌在网络上未加密传输，请设置 tls_cert 和 tls_key，或使用隧道或代理".to_owned(),
            "there is no TLS: passwords and tokens cross the network unencrypted; set tls_cert and tls_key, or let a tunnel \
             or a proxy encrypt"
                .to_owned(),
        )
    });
    if ports.second_port != 0 && ports.second_port != address.port() {
        let second = SocketAddr::new(ports.listen, ports.second_port);
        match TcpListener::bind(second).await {
            Ok(socket) => listeners.push(Listener { socket, tls: tls.clone() }),
            Err(error) => {
                let who = holder_words(second.port());
                let taken = text(
                    format!("端口 {} 不可用（{error}{who}），仅使用 {}", second.port(), address.port()),
                    format!(
                        "port {} is not available ({error}{who}), so only {} is served",
                        second.port(),
                        address.port()
                    ),
                );
                warning = Some(warning.into_iter().chain([taken]).collect::<Vec<_>>().join("\n"));
            }
        }
    }
    let mut local = page.clone();
    if tls.is_some() {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = TcpListener::bind(loopback).await.map_err(|error| refused(loopback, &error))?;
        local = url("http", socket.local_addr().map_err(|error| refused(loopback, &error))?);
        listeners.push(socket.into());
    }
    Ok(Bound { listeners, address: local, page, warning })
}

fn refused(address: SocketAddr, error: &io::Error) -> CliError {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let who = holder_words(port);
            CliError::new(
                "port-in-use",
                text(format!("端口 {port} 已被占用{who}"), format!("port {port} is in use{who}")),
            )
            .next(text(
                "停止占用它的程序，或换一个端口：--port N",
                "stop that program, or choose another port: --port N",
            ))
        }
        io::ErrorKind::PermissionDenied => CliError::new(
            "port-not-permitted",
            text(format!("没有权限使用端口 {port}"), format!("port {port} may not be used by you")),
        )
        .next(text("换一个 1024 以上的端口：--port N", "choose a port above 1023: --port N")),
        _ => CliError::new(
            "address-not-available",
            text(format!("无法在 {address} 上监听：{error}"), format!("{address} cannot be listened on: {error}")),
        )
        .next(text("检查 --listen 与 --port", "check --listen and --port")),
    }
}

fn holder_words(port: u16) -> String {
    match holder(port) {
        Some((pid, name)) => text(format!("（pid {pid} {name}）"), format!(" by pid {pid} ({name})")),
        None => String::new(),
    }
}

/// Pid and name of the process that listens on this port, as far as we may see it.
fn holder(port: u16) -> Option<(u32, String)> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| listening_inode(table, port))?;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else { continue };
        if descriptors.flatten().any(|descriptor| fs::metadata(descriptor.path()).is_ok_and(|file| file.ino() == inode))
        {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim_end().to_owned()));
        }
    }
    None
}

fn listening_inode(table: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let table = fs::read_to_string(table).ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let listens = fields.get(3) == Some(&LISTEN) && u16::from_str_radix(local_port, 16) == Ok(port);
        if listens { fields.get(9)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (pid, _) = holder(listener.local_addr().unwrap().port()).expect("our own sockets can be seen");
        assert_eq!(pid, std::process::id());
    }
}
