//! uv, which makes Python environments: the machine's own, or fetched from the package index as a wheel.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{InstallProgress, PeftError, PeftOptions, Phase, wheel};
use crate::http::{self, Client, NoAnswer};

/// The version that is fetched.
const VERSION: &str = "0.13.9";
/// The oldest of the machine's own that will do.
const OLDEST: (u32, u32) = (0, 7);
const TRIES: u32 = 3;
const LARGEST_LIST: u64 = 64 << 20;
const LARGEST_WHEEL: u64 = 256 << 20;

pub fn find(
    options: &PeftOptions,
    on_progress: &mut dyn FnMut(InstallProgress),
    stop: &AtomicBool,
) -> Result<PathBuf, PeftError> {
    if let Some(given) = &options.uv {
        return Ok(given.clone());
    }
    let own = options.tools().join("uv");
    // An empty entry means the folder that happens to be the current one.
    let folders = || std::env::split_paths(&options.search_path).filter(|folder| folder.is_absolute());
    let on_path = || folders().map(|folder| folder.join("uv")).find(|uv| will_do(uv));
    if let Some(found) = Some(own.clone()).filter(|own| own.is_file()).or_else(on_path) {
        return Ok(found);
    }
    on_progress(InstallProgress::Phase(Phase::Uv));
    let mut tries = 0;
    let program = loop {
        tries += 1;
        match fetch(options, stop) {
            Err(PeftError::Unreachable { .. } | PeftError::Corrupt { .. }) if tries < TRIES => {}
            result => break result?,
        }
    };
    let unfinished = own.with_extension("tmp");
    fs::create_dir_all(options.tools())
        .and_then(|()| fs::write(&unfinished, program))
        .and_then(|()| fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&unfinished, &own))
        .map_err(PeftError::write(&own))?;
    Ok(own)
}

fn will_do(uv: &Path) -> bool {
    let output = Command::new(uv).arg("--version").output().ok();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    // `uv 0.13.9 (…)`
    let mut version = said.strip_prefix("uv ").unwrap_or_default().split('.').map_while(|part| part.parse().ok());
    version.next().zip(version.next()).is_some_and(|version: (u32, u32)| version >= OLDEST)
}

/// The program out of the wheel of this machine's kind.
fn fetch(options: &PeftOptions, stop: &AtomicBool) -> Result<Vec<u8>, PeftError> {
    let (arch, libc) = (std::env::consts::ARCH, if cfg!(target_env = "musl") { "musllinux" } else { "manylinux" });
    let list_url = format!("{}/uv/", options.index);
    let host = http::host(&options.index);
    let fits = |link: &&Link| {
        link.file.starts_with(&format!("uv-{VERSION}-"))
            && link.file.ends_with(&format!("{arch}.whl"))
            && link.file.contains(libc)
    };
    let list = get(&list_url, LARGEST_LIST, stop)?;
    let links = links(&list, &list_url).ok_or_else(|| PeftError::UnexpectedAnswer {
        host: host.clone(),
        reason: "neither JSON nor HTML with links".into(),
    })?;
    let link = links.iter().find(fits).ok_or_else(|| PeftError::NoUv { platform: format!("{libc} {arch}"), host })?;
    let wheel = get(&link.url, LARGEST_WHEEL, stop)?;
    let corrupt = || PeftError::Corrupt { file: link.file.clone() };
    let sum: String = Sha256::digest(&wheel).iter().map(|byte| format!("{byte:02x}")).collect();
    if !sum.eq_ignore_ascii_case(&link.sha256) {
        return Err(corrupt());
    }
    wheel::file(&wheel, ".data/scripts/uv").ok_or_else(corrupt)
}

fn get(url: &str, limit: u64, stop: &AtomicBool) -> Result<Vec<u8>, PeftError> {
    let accept = "application/vnd.pypi.simple.v1+json, application/octet-stream;q=0.9, text/html;q=0.1, */*;q=0.1";
    let unreachable = |NoAnswer { host, reason }| PeftError::Unreachable { host, reason };
    let response = Client::new().get(url, &[("accept", accept.into())], &[]).map_err(unreachable)?;
    let host = http::host(url);
    if response.status() != 200 {
        let reason = format!("status {}", response.status().as_u16());
        return Err(match response.status().is_server_error() {
            true => PeftError::Unreachable { host, reason },
            false => PeftError::UnexpectedAnswer { host, reason },
        });
    }
    let mut content = Vec::new();
    let mut body = response.into_body().into_reader().take(limit);
    let mut buffer = vec![0; 128 << 10];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(PeftError::Stopped);
        }
        match body.read(&mut buffer) {
            Ok(0) => return Ok(content),
            Ok(count) => content.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(PeftError::Unreachable { host, reason: error.to_string() }),
        }
    }
}

/// A file that the index offers.
#[derive(Debug, PartialEq)]
struct Link {
    file: String,
    url: String,
    sha256: String,
}

/// From the JSON that newer indexes answer, or the HTML that mirrors may know only. Files without a checksum are left
/// out.
fn links(list: &[u8], base: &str) -> Option<Vec<Link>> {
    if let Ok(list) = serde_json::from_slice::<Value>(list) {
        let link = |file: &Value| {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let (name, url) = (text(&file["filename"])?, join(base, file["url"].as_str()?));
            Some(Link { file: name, url, sha256: text(&file["hashes"]["sha256"])? })
        };
        return Some(list["files"].as_array()?.iter().filter_map(link).collect());
    }
    let html = std::str::from_utf8(list).ok().filter(|html| html.contains("<a "))?;
    let targets = html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let link = |target: &str| {
        let target = target.replace("&amp;", "&");
        let (path, sha256) = target.split_once("#sha256=")?;
        let file = path.split('?').next()?.rsplit('/').next()?;
        Some(Link { file: file.to_owned(), url: join(base, path), sha256: sha256.to_owned() })
    };
    Some(targets.filter_map(link).collect())
}

/// The address that a link on the page `base` means.
fn join(base: &str, target: &str) -> String {
    if target.contains("://") {
        return target.to_owned();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if let Some(target) = target.strip_prefix("//") {
        return format!("{scheme}://{target}");
    }
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { path.split('/').collect() };
    // What is behind the last slash is the page itself.
    parts.pop();
    for part in target.trim_start_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("{scheme}://{host}/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_html_lists_say_the_same() {
        let base = "https://mirror.example/pypi/simple/uv/";
        let json = br#"{"files": [{"filename": "uv-1-a.whl", "url": "https://files.example/uv-1-a.whl", "hashes": {"sha256": "ab"}},
            {"filename": "uv-1.tar.gz", "url": "x", "hashes": {}}]}"#;
        let link = |url: &str| Link { file: "uv-1-a.whl".into(), url: url.into(), sha256: "ab".into() };
        assert_eq!(links(json, base), Some(vec![link("https://files.example/uv-1-a.whl")]));
        let html =
            br#"<html><a href="../../packages/1/uv-1-a.whl#sha256=ab" data-x="1">uv</a> <a href="/x">no sum</a>"#;
        assert_eq!(links(html, base), Some(vec![link("https://mirror.example/pypi/packages/1/uv-1-a.whl")]));
        assert_eq!(links(b"<h1>Sign in</h1>", base), None);
        assert_eq!(join("http://127.0.0.1:8/simple/uv/", "/f/a"), "http://127.0.0.1:8/f/a");
    }
}
