//! Requests to the hub, and one file from it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use sha2::Digest;
use ureq::Body;
use ureq::http::{HeaderMap, Response};

use super::listing::{Hash, RemoteFile};
use super::{HubError, HubKind, HubOptions, pause};
use crate::http::{self, Client};

/// Tries in a row that bring nothing, until it is given up.
const MOST_FAILURES: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const LARGEST_LIST: u64 = 32 << 20;

pub(super) struct Downloader<'a> {
    pub client: &'a Client,
    pub options: &'a HubOptions,
    /// Where the files go.
    pub folder: &'a Path,
    pub stop: &'a AtomicBool,
}

/// Why one try came to nothing.
enum Failed {
    /// It may go better next time, at the earliest after this pause.
    Passing {
        reason: String,
        status: Option<u16>,
        wait: Option<Duration>,
    },
    ForGood(HubError),
}

impl From<HubError> for Failed {
    fn from(error: HubError) -> Failed {
        Failed::ForGood(error)
    }
}

impl Downloader<'_> {
    /// A JSON document of the hub, with its headers.
    pub fn json(&self, url: &str) -> Result<(Value, HeaderMap), HubError> {
        let mut tries = Tries::default();
        loop {
            match self.try_json(url) {
                Ok(answer) => return Ok(answer),
                Err(failed) => tries.after(failed, false, self, None)?,
            }
        }
    }

    fn try_json(&self, url: &str) -> Result<(Value, HeaderMap), Failed> {
        let mut response = self.get(url, &[])?;
        if response.status() != 200 {
            return Err(self.refusal(&response, "the list of files"));
        }
        let text = response.body_mut().with_config().limit(LARGEST_LIST).read_to_vec().map_err(broken_off)?;
        let value = serde_json::from_slice(&text).map_err(|_| self.unexpected())?;
        Ok((value, response.headers().clone()))
    }

    /// Bytes of the file that are here already.
    pub fn present(&self, file: &RemoteFile) -> u64 {
        let length = |path: PathBuf| fs::metadata(path).map(|metadata| metadata.len()).ok();
        let complete = length(self.folder.join(&file.name)).filter(|length| *length == file.size);
        complete.or_else(|| length(self.part(file))).unwrap_or(0).min(file.size)
    }

    /// Fetches one file, whatever of it is here already, and reports its bytes as they come.
    pub fn fetch(&self, file: &RemoteFile, on_bytes: &mut dyn FnMut(u64)) -> Result<(), HubError> {
        let (part, target) = (self.part(file), self.folder.join(&file.name));
        // Files that are complete were checked when they became so, unless they are of another revision.
        if is_intact(&target, file).map_err(HubError::write(&target))? {
            on_bytes(file.size);
            return Ok(());
        }
        let mut tries = Tries::default();
        let mut corrupt = false;
        loop {
            let have = fs::metadata(&part).map_or(0, |metadata| metadata.len());
            on_bytes(have.min(file.size));
            if have >= file.size && (have > 0 || part.exists()) {
                if is_intact(&part, file).map_err(HubError::write(&part))? {
                    return fs::rename(&part, &target).map_err(HubError::write(&target));
                }
                if std::mem::replace(&mut corrupt, true) {
                    let _ = fs::remove_file(&part);
                    return Err(HubError::Corrupt { file: file.name.clone() });
                }
                fs::remove_file(&part).map_err(HubError::write(&part))?;
                continue;
            }
            if let Err(failed) = self.try_fetch(file, &part, have, on_bytes) {
                let now = fs::metadata(&part).map_or(0, |metadata| metadata.len());
                tries.after(failed, now > have, self, Some(&file.name))?;
            }
        }
    }

    fn try_fetch(
        &self,
        file: &RemoteFile,
        part: &Path,
        have: u64,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<(), Failed> {
        let range = [("range", format!("bytes={have}-"))];
        let response = self.get(&file.url, if have > 0 { &range } else { &[] })?;
        let start = match response.status().as_u16() {
            206 if continues_at(&response, have) => have,
            200 => 0,
            206 | 416 => {
                let _ = fs::remove_file(part);
                return Err(passing("it answered another part than asked for"));
            }
            _ => return Err(self.refusal(&response, &file.name)),
        };
        let mut out = OpenOptions::new().create(true).append(true).open(part).map_err(HubError::write(part))?;
        out.set_len(start).map_err(HubError::write(part))?;
        let mut content = response.into_body().into_reader();
        let (mut buffer, mut bytes) = (vec![0; 128 << 10], start);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(HubError::Stopped.into());
            }
            let count = content.read(&mut buffer).map_err(|error| passing(&error.to_string()))?;
            if count == 0 {
                break;
            }
            out.write_all(&buffer[..count]).map_err(HubError::write(part))?;
            bytes += count as u64;
            if bytes > file.size {
                // More than there should be; the check will say so.
                break;
            }
            on_bytes(bytes);
        }
        out.sync_data().map_err(HubError::write(part))?;
        if bytes < file.size { Err(passing("the connection broke off")) } else { Ok(()) }
    }

    /// The name has the hash in it, so that versions of a file are never put together.
    fn part(&self, file: &RemoteFile) -> PathBuf {
        let version = file.hash.as_ref().map_or("unhashed", |hash| hash.hex());
        self.folder.join(format!("{}.{}.part", file.name, version.get(..16).unwrap_or(version)))
    }

    fn get(&self, url: &str, headers: &[(&str, String)]) -> Result<Response<Body>, Failed> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(HubError::Stopped.into());
        }
        let secrets = match (&self.options.token, &self.options.kind) {
            (None, _) => vec![],
            (Some(token), HubKind::HuggingFace | HubKind::Unknown(_)) => {
                vec![("authorization", format!("Bearer {token}"))]
            }
            (Some(token), HubKind::ModelScope) => {
                vec![("authorization", format!("Bearer {token}")), ("cookie", format!("m_session_id={token}"))]
            }
        };
        // A list may lead to its next page: no secret goes where the hub is not.
        let is_ours = url.starts_with(&format!("{}/", self.options.endpoint));
        let secrets = if is_ours { &secrets[..] } else { &[] };
        self.client.get(url, headers, secrets).map_err(|none| passing(&format!("{} – {}", none.host, none.reason)))
    }

    fn host(&self) -> String {
        http::host(&self.options.endpoint)
    }

    pub fn unexpected(&self) -> HubError {
        HubError::UnexpectedAnswer { host: self.host() }
    }

    /// What an answer means that is not the document.
    fn refusal(&self, response: &Response<Body>, file: &str) -> Failed {
        let HubOptions { id, endpoint, revision, .. } = self.options;
        let (host, id, file) = (self.host(), id.clone(), file.to_owned());
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let code = header("x-error-code").unwrap_or_default();
        let page = match &self.options.kind {
            HubKind::HuggingFace | HubKind::Unknown(_) => format!("{endpoint}/{id}"),
            HubKind::ModelScope => format!("{endpoint}/models/{id}"),
        };
        let status = response.status().as_u16();
        Failed::ForGood(match status {
            408 | 425 | 429 | 500..=599 => {
                let wait = header("retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
                return Failed::Passing { reason: format!("it answered {status}"), status: Some(status), wait };
            }
            // Hugging Face answers 401 for what does not exist, so as not to tell what is private.
            401 | 403 if code == "RepoNotFound" => HubError::NotFound { host, id },
            401 | 403 if self.options.token.is_none() => HubError::TokenMissing { id, page },
            401 | 403 => HubError::TokenRefused { id, page },
            404 if code == "RevisionNotFound" => HubError::RevisionNotFound { id, revision: revision.clone() },
            404 => HubError::NotFound { host, id },
            _ => HubError::UnexpectedStatus { host, file, status },
        })
    }
}

/// Counts tries that brought nothing.
#[derive(Default)]
struct Tries {
    failures: u32,
}

impl Tries {
    /// Waits before the next try, or answers the error if there shall be none.
    fn after(
        &mut self,
        failed: Failed,
        progressed: bool,
        by: &Downloader<'_>,
        file: Option<&str>,
    ) -> Result<(), HubError> {
        let (reason, status, wait) = match failed {
            Failed::ForGood(error) => return Err(error),
            Failed::Passing { reason, status, wait } => (reason, status, wait),
        };
        self.failures = if progressed { 1 } else { self.failures + 1 };
        if self.failures >= MOST_FAILURES {
            let host = by.host();
            return Err(match (file, status) {
                (None, None) => HubError::Unreachable { host, reason },
                (file, Some(status)) => {
                    let file = file.unwrap_or("the list of files").to_owned();
                    HubError::UnexpectedStatus { host, file, status }
                }
                (Some(file), None) => HubError::Broken { host, file: file.to_owned(), reason },
            });
        }
        let backoff = by.options.retry_pause.saturating_mul(1 << (self.failures - 1));
        pause(wait.unwrap_or(backoff).min(LONGEST_PAUSE), by.stop)
    }
}

fn passing(reason: &str) -> Failed {
    Failed::Passing { reason: reason.to_owned(), status: None, wait: None }
}

fn broken_off(error: ureq::Error) -> Failed {
    passing(&http::reason(&error))
}

fn continues_at(response: &Response<Body>, have: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
}

/// The file is there with the right size and content.
fn is_intact(path: &Path, file: &RemoteFile) -> io::Result<bool> {
    let content = match File::open(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if content.metadata()?.len() != file.size {
        return Ok(false);
    }
    let content = BufReader::with_capacity(1 << 20, content);
    Ok(match &file.hash {
        None => true,
        Some(Hash::Sha256(hex)) => digest(sha2::Sha256::new(), content)?.eq_ignore_ascii_case(hex),
        Some(Hash::GitBlob(hex)) => {
            let hasher = sha1::Sha1::new_with_prefix(format!("blob {}\0", file.size));
            digest(hasher, content)?.eq_ignore_ascii_case(hex)
        }
    })
}

fn digest(mut hasher: impl Digest + Write, mut content: impl Read) -> io::Result<String> {
    io::copy(&mut content, &mut hasher)?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
