//! Fetches models from Hugging Face, a mirror of it, or ModelScope.
//!
//! A fetch that breaks off is gone on with, also by a later one. Files are checked by size and hash, and the model's
//! folder appears only when it is complete.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domain::Home;

use crate::http::Client;
use crate::models;

mod download;
mod error;
mod listing;

pub use error::HubError;

/// Which API a hub speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubKind {
    HuggingFace,
    ModelScope,
    /// `SAGE_HUB` has a value that names no hub; nothing can be fetched.
    Unknown(String),
}

/// What to fetch, and from where.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    pub kind: HubKind,
    /// Such as `https://huggingface.co` or `https://hf-mirror.com`.
    pub endpoint: String,
    /// Sent to the endpoint only.
    pub token: Option<String>,
    /// Never use the network.
    pub offline: bool,
    /// `<organisation>/<name>`
    pub id: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// The folder that becomes the model.
    pub dest: PathBuf,
    /// Pause before the first new try after a broken connection; each further one is twice as long.
    pub retry_pause: Duration,
}

impl std::fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let HubOptions { kind, endpoint, offline, id, revision, dest, .. } = self;
        let token = self.token.as_ref().map(|_| "…");
        write!(f, "HubOptions({kind:?} {endpoint} {id}@{revision} to {dest:?}, token {token:?}, offline {offline})")
    }
}

impl HubOptions {
    /// Into `$SAGE_HOME/models`, by `SAGE_HUB` (`huggingface` or `modelscope`), `HF_ENDPOINT`, `HF_TOKEN`,
    /// `HF_HUB_OFFLINE` and the token file of Hugging Face's tools, or `MODELSCOPE_ENDPOINT` and
    /// `MODELSCOPE_API_TOKEN`.
    pub fn from_env(id: &str, home: &Home) -> HubOptions {
        HubOptions::from_variables(id, home, |name| std::env::var(name).ok())
    }

    fn from_variables(id: &str, home: &Home, variable: impl Fn(&str) -> Option<String>) -> HubOptions {
        let read = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let kind = match read("SAGE_HUB").map(|value| value.to_ascii_lowercase()).as_deref() {
            None | Some("huggingface") => HubKind::HuggingFace,
            Some("modelscope") => HubKind::ModelScope,
            Some(value) => HubKind::Unknown(value.to_owned()),
        };
        let (endpoint, default, token, revision) = match &kind {
            HubKind::HuggingFace => {
                let token_file = || {
                    let path = read("HF_TOKEN_PATH").map(PathBuf::from);
                    let path = path.or_else(|| Some(models::hugging_face_home(&variable)?.join("token")))?;
                    let token = fs::read_to_string(path).ok()?.trim().to_owned();
                    (!token.is_empty()).then_some(token)
                };
                let token = read("HF_TOKEN").or_else(token_file);
                (read("HF_ENDPOINT"), "https://huggingface.co", token, "main")
            }
            HubKind::Unknown(_) => (None, "", None, "main"),
            HubKind::ModelScope => {
                (read("MODELSCOPE_ENDPOINT"), "https://www.modelscope.cn", read("MODELSCOPE_API_TOKEN"), "master")
            }
        };
        let offline = read("HF_HUB_OFFLINE").map(|value| value.to_ascii_uppercase());
        HubOptions {
            kind,
            endpoint: endpoint.unwrap_or_else(|| default.into()).trim_end_matches('/').to_owned(),
            token,
            offline: offline.is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.as_str())),
            id: id.to_owned(),
            revision: revision.into(),
            dest: models::folder_of(id, home),
            retry_pause: Duration::from_secs(1),
        }
    }
}

/// How far a fetch has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchProgress {
    /// The file in work.
    pub file: String,
    /// Of all files, so far.
    pub bytes: u64,
    /// Of all files.
    pub total_bytes: Option<u64>,
}

/// Free bytes that must remain when everything is fetched.
const SPARE_ON_DISK: u64 = 64 << 20;
const BETWEEN_REPORTS: Duration = Duration::from_millis(100);

/// Fetches a model and answers its folder. Goes on where an earlier fetch broke off, waits for one under way, and does
/// nothing if the model is complete. Blocks; ends soon after `stop` becomes true.
pub fn fetch(
    options: &HubOptions,
    on_progress: &mut dyn FnMut(FetchProgress),
    stop: &AtomicBool,
) -> Result<PathBuf, HubError> {
    if models::complete(options.dest.clone()).is_ok() {
        return Ok(options.dest.clone());
    }
    if options.offline {
        return Err(HubError::Offline { id: options.id.clone() });
    }
    if let HubKind::Unknown(value) = &options.kind {
        return Err(HubError::UnknownHub { value: value.clone() });
    }
    if !models::is_hub_id(&options.id) {
        return Err(HubError::BadId { id: options.id.clone() });
    }
    let staging = Staging::open(&options.dest, stop)?;
    // Whoever had the lock before may have fetched it.
    if models::complete(options.dest.clone()).is_ok() {
        return Ok(options.dest.clone());
    }
    fs::create_dir_all(&staging.folder).map_err(HubError::write(&staging.folder))?;

    let client = Client::new();
    let download = download::Downloader { client: &client, options, folder: &staging.folder, stop };
    let files = listing::list(&download)?;
    let total: u64 = files.iter().map(|file| file.size).sum();
    let present = |files: &[listing::RemoteFile]| files.iter().map(|file| download.present(file)).sum::<u64>();
    staging.check_space(total.saturating_sub(present(&files)))?;

    let mut done = 0;
    for (position, file) in files.iter().enumerate() {
        let later = present(&files[position + 1..]);
        let mut last_report: Option<Instant> = None;
        download.fetch(file, &mut |bytes| {
            if bytes < file.size && last_report.is_some_and(|last| last.elapsed() < BETWEEN_REPORTS) {
                return;
            }
            last_report = Some(Instant::now());
            let bytes = (done + bytes + later).min(total);
            on_progress(FetchProgress { file: file.name.clone(), bytes, total_bytes: Some(total) });
        })?;
        done += file.size;
    }
    staging.finish(&files, &options.dest)?;
    Ok(options.dest.clone())
}

/// Where files lie until all are there: `.fetch/<name>` beside the model's folder, locked while in use.
struct Staging {
    folder: PathBuf,
    _lock: File,
}

impl Staging {
    fn open(dest: &Path, stop: &AtomicBool) -> Result<Staging, HubError> {
        let name = dest.file_name().unwrap_or_default();
        let parent = dest.parent().unwrap_or(Path::new(".")).join(".fetch");
        let (folder, path) = (parent.join(name), parent.join(name).with_added_extension("lock"));
        fs::create_dir_all(&parent).map_err(HubError::write(&parent))?;
        let lock = File::create(&path).map_err(HubError::write(&path))?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Staging { folder, _lock: lock }),
                Err(TryLockError::WouldBlock) => pause(Duration::from_millis(200), stop)?,
                Err(TryLockError::Error(error)) => return Err(HubError::write(&path)(error)),
            }
        }
    }

    fn check_space(&self, needed: u64) -> Result<(), HubError> {
        let Ok(disk) = rustix::fs::statvfs(&self.folder) else { return Ok(()) };
        let available = disk.f_bavail.saturating_mul(disk.f_frsize);
        if available < needed.saturating_add(SPARE_ON_DISK) {
            return Err(HubError::DiskFull {
                folder: self.folder.clone(),
                needed: Some(needed),
                available: Some(available),
            });
        }
        Ok(())
    }

    /// Makes the folder the model's.
    fn finish(&self, files: &[listing::RemoteFile], dest: &Path) -> Result<(), HubError> {
        // Remains of another revision do not belong to the model.
        let entries = fs::read_dir(&self.folder).map_err(HubError::write(&self.folder))?;
        for entry in entries.flatten() {
            if !files.iter().any(|file| entry.file_name() == file.name.as_str()) {
                let _ = fs::remove_file(entry.path());
            }
        }
        if !dest.exists() {
            return fs::rename(&self.folder, dest).map_err(HubError::write(dest));
        }
        // An incomplete model of another origin: configuration last, because it is what makes a folder a model.
        let (config, others): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.name == "config.json");
        for file in others.into_iter().chain(config) {
            let to = dest.join(&file.name);
            fs::rename(self.folder.join(&file.name), &to).map_err(HubError::write(&to))?;
        }
        let _ = fs::remove_dir(&self.folder);
        Ok(())
    }
}

/// Sleeps, unless `stop` becomes true.
fn pause(time: Duration, stop: &AtomicBool) -> Result<(), HubError> {
    let until = Instant::now() + time;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(HubError::Stopped);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> HubOptions {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        HubOptions::from_variables("a/b", &Home::new("/h"), find)
    }

    #[test]
    fn the_environment_chooses_hub_and_token() {
        let options = from(&[]);
        assert_eq!((options.kind, options.endpoint.as_str()), (HubKind::HuggingFace, "https://huggingface.co"));
        assert_eq!((options.token, options.offline, options.revision.as_str()), (None, false, "main"));
        assert_eq!(options.dest, Path::new("/h/models/a--b"));

        let options =
            from(&[("HF_ENDPOINT", "https://hf-mirror.com/"), ("HF_TOKEN", " hf_x "), ("HF_HUB_OFFLINE", "1")]);
        assert_eq!((options.endpoint.as_str(), options.token.as_deref()), ("https://hf-mirror.com", Some("hf_x")));
        assert!(options.offline);
        assert!(!format!("{options:?}").contains("hf_x"), "a token is not printed");

        let options = from(&[("SAGE_HUB", "ModelScope"), ("HF_ENDPOINT", "https://x"), ("HF_TOKEN", "hf_x")]);
        assert_eq!((options.kind, options.endpoint.as_str()), (HubKind::ModelScope, "https://www.modelscope.cn"));
        assert_eq!((options.token, options.revision.as_str()), (None, "master"), "one hub's token is not the other's");

        let options = from(&[("SAGE_HUB", "github")]);
        let refused = fetch(&options, &mut |_| (), &AtomicBool::new(false));
        assert!(matches!(refused, Err(HubError::UnknownHub { .. })));
    }

    #[test]
    fn the_token_file_of_hugging_faces_tools_is_used() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("token"), "hf_file\n").unwrap();
        let folder = home.path().to_str().unwrap();
        assert_eq!(from(&[("HF_HOME", folder)]).token.as_deref(), Some("hf_file"));
        assert_eq!(from(&[("HF_HOME", folder), ("HF_TOKEN", "hf_env")]).token.as_deref(), Some("hf_env"));
    }
}
