//! The page, embedded: what `vite build` made of `web/`, or a plain page that says how to get the real one.

use std::borrow::Cow;

#[derive(rust_embed::RustEmbed)]
#[folder = "$OUT_DIR/dist"]
struct Dist;

/// One file of the page.
#[derive(Debug, Clone)]
pub struct Asset {
    pub bytes: Cow<'static, [u8]>,
    pub content_type: &'static str,
    /// Strong, quoted, as it goes into the `ETag` header.
    pub etag: String,
    /// Its name carries a hash of its content: a browser may keep it for ever.
    pub immutable: bool,
}

/// The file at `path`, with or without a leading slash; `None` where there is none.
pub fn asset(path: &str) -> Option<Asset> {
    let path = path.trim_start_matches('/');
    let file = Dist::get(path)?;
    let hash: String = file.metadata.sha256_hash()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Asset {
        bytes: file.data,
        content_type: content_type(path),
        etag: format!("\"{hash}\""),
        immutable: path.starts_with("assets/"),
    })
}

/// The page itself, the answer to every path that the page's own router knows.
pub fn index() -> Asset {
    asset("index.html").expect("build.rs always leaves an index.html")
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("webmanifest") => "application/manifest+json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_a_page_that_may_not_be_kept() {
        let index = index();
        assert!(index.bytes.starts_with(b"<!doctype html>"));
        assert_eq!(index.content_type, "text/html; charset=utf-8");
        assert!(!index.immutable);
        assert_eq!(index.etag.len(), 26);
        assert_eq!(asset("/index.html").unwrap().etag, index.etag);
    }

    #[test]
    fn every_file_that_the_index_names_is_embedded_and_may_be_kept() {
        let index = index();
        let html = String::from_utf8(index.bytes.into_owned()).unwrap();
        let named = html.split('"').filter(|part| part.starts_with("/assets/"));
        for path in named {
            let asset = asset(path).unwrap_or_else(|| panic!("{path} is not embedded"));
            assert!(asset.immutable);
            assert_ne!(asset.content_type, "application/octet-stream", "{path}");
        }
    }

    #[test]
    fn nothing_outside_the_page_is_found() {
        assert!(asset("../Cargo.toml").is_none());
        assert!(asset("/etc/passwd").is_none());
        assert!(asset("").is_none());
    }
}
