//! A data set made of SAGE's public documentation.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use serde::Serialize;

use crate::http::{self, Client};

mod markdown;

const DEFAULT_URL: &str = "https://github.com/intellistream/SAGE-Pub/archive/refs/heads/main.tar.gz";
const FILE_NAME: &str = "sage_docs.jsonl";

/// What an archive may hold at most, against one that unpacks without end.
const LARGEST_ARCHIVE: u64 = 1 << 30;
const LARGEST_PAGE: u64 = 4 << 20;
/// Folders of notes that are not written for users.
const SKIPPED_FOLDERS: [&str; 3] = ["dev-notes", "node_modules", "archive"];

/// The data set made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocsDataset {
    /// JSON Lines, alpaca.
    pub path: PathBuf,
    pub samples: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DocsError {
    #[error(
        "{host} cannot be reached: {reason}. Check the network, or set SAGE_DOCS_URL to an archive (.tar.gz) that can be"
    )]
    Unreachable { host: String, reason: String },
    #[error(
        "{host} answered {status} for the documentation. Set SAGE_DOCS_URL to the address of the archive (.tar.gz)"
    )]
    UnexpectedStatus { host: String, status: u16 },
    #[error("the documentation's archive cannot be read: {reason}. Try again, or set SAGE_DOCS_URL to another .tar.gz")]
    BadArchive { reason: String },
    #[error("the archive has no Markdown pages with text. Set SAGE_DOCS_URL to an archive of the documentation")]
    NoPages,
    #[error("cannot write {}: {source}. Check free space and permissions", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl DocsError {
    pub fn code(&self) -> &'static str {
        match self {
            DocsError::Unreachable { .. } => "docs-unreachable",
            DocsError::UnexpectedStatus { .. } => "docs-unexpected-answer",
            DocsError::BadArchive { .. } => "docs-bad-archive",
            DocsError::NoPages => "docs-no-pages",
            DocsError::Write { .. } => "docs-cannot-write",
        }
    }

    pub fn message_zh(&self) -> String {
        match self {
            DocsError::Unreachable { host, reason } => {
                format!("无法连接 {host}：{reason}。请检查网络，或将 SAGE_DOCS_URL 设置为可访问的 .tar.gz 地址")
            }
            DocsError::UnexpectedStatus { host, status } => {
                format!("{host} 返回了 {status}。请将 SAGE_DOCS_URL 设置为文档压缩包（.tar.gz）的地址")
            }
            DocsError::BadArchive { reason } => {
                format!("无法读取文档压缩包：{reason}。请重试，或将 SAGE_DOCS_URL 设置为其他 .tar.gz 地址")
            }
            DocsError::NoPages => "压缩包中没有 Markdown 文档。请将 SAGE_DOCS_URL 设置为文档压缩包的地址".into(),
            DocsError::Write { path, source } => {
                format!("无法写入 {}：{source}。请检查磁盘空间和权限", path.display())
            }
        }
    }
}

/// Archive to take: `SAGE_DOCS_URL`, else the repository of SAGE's documentation.
pub fn url_from_env() -> String {
    std::env::var("SAGE_DOCS_URL").ok().filter(|url| !url.is_empty()).unwrap_or_else(|| DEFAULT_URL.into())
}

/// Fetches the archive, turns its Markdown into alpaca rows and writes them into `uploads`. Replaces what an earlier
/// call wrote, once everything is there. Blocks.
pub fn prepare(url: &str, uploads: &Path) -> Result<DocsDataset, DocsError> {
    let response = Client::new().get(url, &[], &[]);
    let response = response.map_err(|none| DocsError::Unreachable { host: none.host, reason: none.reason })?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(DocsError::UnexpectedStatus { host: http::host(url), status });
    }

    let path = uploads.join(FILE_NAME);
    let unfinished = uploads.join(format!(".{FILE_NAME}.{}.part", std::process::id()));
    let result = fs::create_dir_all(uploads)
        .and_then(|()| File::create(&unfinished))
        .map_err(failed_write(&unfinished))
        .and_then(|file| write_rows(response.into_body().into_reader(), file, &unfinished))
        .and_then(|samples| {
            fs::rename(&unfinished, &path).map_err(failed_write(&path))?;
            Ok(DocsDataset { path, samples })
        });
    if result.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    result
}

fn failed_write(path: &Path) -> impl FnOnce(io::Error) -> DocsError {
    let path = path.to_owned();
    |source| DocsError::Write { path, source }
}

#[derive(Serialize)]
struct Row<'a> {
    instruction: String,
    input: &'static str,
    output: &'a str,
}

/// Reads the archive as a stream and writes the rows of its pages. Answers how many there are.
fn write_rows(archive: impl Read, file: File, path: &Path) -> Result<u64, DocsError> {
    let bad = |error: io::Error| DocsError::BadArchive { reason: error.to_string() };
    let mut archive = tar::Archive::new(GzDecoder::new(archive).take(LARGEST_ARCHIVE));
    let mut out = BufWriter::new(file);
    let (mut samples, mut text) = (0, String::new());
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let name = entry.path().map_err(bad)?.into_owned();
        if entry.header().entry_type() != tar::EntryType::Regular || !is_page(&name) || entry.size() > LARGEST_PAGE {
            continue;
        }
        text.clear();
        match entry.read_to_string(&mut text) {
            Ok(_) => {}
            // A page in another encoding is left out, a broken archive is not.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
            Err(error) => return Err(bad(error)),
        }
        let title = name.file_stem().unwrap_or_default().to_string_lossy();
        for section in markdown::sections(&text, &title) {
            let row = Row { instruction: section.question(), input: "", output: section.text };
            let written = serde_json::to_writer(&mut out, &row).map_err(io::Error::from);
            written.and_then(|()| out.write_all(b"\n")).map_err(failed_write(path))?;
            samples += 1;
        }
    }
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(failed_write(path))?;
    if samples == 0 { Err(DocsError::NoPages) } else { Ok(samples) }
}

fn is_page(path: &Path) -> bool {
    let is_skipped = |name: &str| name.starts_with('.') || SKIPPED_FOLDERS.contains(&name);
    let folders = path.parent().into_iter().flat_map(Path::components);
    let is_markdown = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("md"));
    let is_hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    is_markdown
        && !is_hidden
        && folders.into_iter().all(|part| match part {
            Component::Normal(name) => !is_skipped(&name.to_string_lossy()),
            _ => true,
        })
}
