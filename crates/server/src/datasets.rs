//! Data sets on disk: uploads become visible only once they are whole and valid.

use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use api_types::{DatasetView, ExamplePreview};
use axum::{
    body::Bytes,
    extract::multipart::{Field, Multipart, MultipartError},
    http::StatusCode,
};
use jiff::Timestamp;
use recipes::dataset::{self, DatasetError, DatasetReport};
use store::Accounts;
use tokio::{
    io::AsyncWriteExt,
    time::{timeout, timeout_at},
};

use crate::{
    auth::Who,
    bodies::MULTIPART_OVERHEAD,
    error::{ApiError, Result, blocking},
    quota::{self, Room},
};

/// Checks remembered at most.
const REMEMBERED: usize = 1000;
/// Longest file name, in bytes.
const NAME_LENGTH: usize = 200;
/// Between two parts of an upload, and for all that comes before its file.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes per second that an upload comes to, once it has gone on for longer than that.
const PACE: u64 = 4 << 10;
/// Of a form, up to the file.
const FIELDS: usize = 16;
const PARTIAL: &str = ".upload-";

/// The folder of uploads, and what checks of data sets anywhere have found.
pub struct Datasets {
    folder: PathBuf,
    /// Knows whose each upload is.
    accounts: Arc<Accounts>,
    /// Largest upload, in bytes.
    limit: u64,
    checks: Mutex<HashMap<PathBuf, Checked>>,
    /// Held while a name is chosen and taken.
    naming: Mutex<()>,
}

type Check = std::result::Result<Arc<DatasetReport>, DatasetError>;

struct Checked {
    version: Version,
    check: Check,
}

/// What changes when a file is written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    modified: SystemTime,
    length: u64,
}

impl Datasets {
    pub fn new(folder: PathBuf, accounts: Arc<Accounts>, limit: u64) -> Datasets {
        Datasets { folder, accounts, limit, checks: Mutex::default(), naming: Mutex::default() }
    }

    /// Makes the folder and removes what uploads left behind that a crash cut off.
    pub fn prepare(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(PARTIAL.as_bytes()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The file a recipe means: a path, or the name of an upload.
    pub fn locate(&self, file: &str) -> Result<PathBuf> {
        let path = Path::new(file);
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        if path.components().count() == 1 {
            return Ok(self.folder.join(path));
        }
        Err(ApiError::bad_request("dataset-path", format!("dataset_file {file:?} is not an absolute path"))
            .zh(format!("dataset_file {file:?} 不是绝对路径；请先上传数据集并使用返回的路径，或使用以 / 开头的路径"))
            .next("Upload the data set and pass the path of the answer, or give a path that starts with /"))
    }

    /// The name under which `path` would be an upload.
    pub fn upload_name(&self, path: &Path) -> Option<String> {
        let name = path.file_name()?.to_str()?;
        (path == self.folder.join(name)).then(|| name.to_owned())
    }

    /// Checks a data set, or remembers what a check of the unchanged file found. May block.
    pub fn check(&self, path: &Path) -> Result<Arc<DatasetReport>> {
        let metadata = std::fs::metadata(path).map_err(|error| missing(path, &error))?;
        if !metadata.is_file() {
            return Err(ApiError::bad_request("dataset-missing", format!("{} is not a file", path.display()))
                .zh(format!("{} 不是文件；请选择一个 .json 或 .jsonl 文件", path.display()))
                .next("Give one .json or .jsonl file"));
        }
        let version =
            Version { modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), length: metadata.len() };
        if let Some(checked) = self.checks().get(path)
            && checked.version == version
        {
            return checked.check.clone().map_err(invalid);
        }
        let check = dataset::check(path).map(Arc::new);
        self.remember(path.to_owned(), version, check.clone());
        check.map_err(invalid)
    }

    /// Takes the file of a multipart body.
    pub async fn upload(self: &Arc<Self>, mut body: Multipart, room: Room) -> Result<DatasetView> {
        let left = room.left().await?;
        // What comes before the file is nobody's, and does not go on for ever.
        let (until, mut passed) = (tokio::time::Instant::now() + SILENCE, 0);
        for _ in 0..FIELDS {
            let next = timeout_at(until, body.next_field()).await.map_err(|_| stalled())?;
            let Some(mut field) = next.map_err(|error| self.broken(error))? else { break };
            if field.name() == Some("file") {
                let name = file_name(field.file_name().unwrap_or_default())?;
                let partial = self.receive(field, &name, left).await?;
                let datasets = self.clone();
                return blocking(move || datasets.publish(partial, &name, &room)).await;
            }
            timeout_at(until, self.pass(&mut field, &mut passed)).await.unwrap_or_else(|_| Err(stalled()))?;
        }
        Err(ApiError::invalid("the multipart field `file` is missing", "缺少表单字段 file")
            .next("Send the data set as the field `file`"))
    }

    /// Reads over a field that nobody asked for.
    async fn pass(&self, field: &mut Field<'_>, passed: &mut u64) -> Result<()> {
        while let Some(chunk) = field.chunk().await.map_err(|error| self.broken(error))? {
            *passed += chunk.len() as u64;
            if *passed > MULTIPART_OVERHEAD {
                return Err(ApiError::too_large(MULTIPART_OVERHEAD));
            }
        }
        Ok(())
    }

    pub async fn paste(self: &Arc<Self>, name: &str, content: String, room: Room) -> Result<DatasetView> {
        let name = file_name(name)?;
        if room.left().await?.is_some_and(|left| content.len() as u64 > left) {
            return Err(quota::disk_full(None));
        }
        let datasets = self.clone();
        blocking(move || {
            let partial = Partial::new(&datasets.folder, &name)?;
            let mut file = std::fs::File::create_new(&partial.path).map_err(not_written)?;
            file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(not_written)?;
            datasets.publish(partial, &name, &room)
        })
        .await
    }

    async fn receive(&self, mut field: Field<'_>, name: &str, left: Option<u64>) -> Result<Partial> {
        let partial = Partial::new(&self.folder, name)?;
        let mut file = tokio::fs::File::create_new(&partial.path).await.map_err(not_written)?;
        let (mut length, began) = (0, Instant::now());
        while let Some(chunk) = self.chunk(&mut field).await? {
            length += chunk.len() as u64;
            if length < began.elapsed().saturating_sub(SILENCE).as_secs() * PACE {
                return Err(stalled());
            }
            if length > self.limit {
                return Err(ApiError::too_large(self.limit));
            }
            if left.is_some_and(|left| length > left) {
                return Err(quota::disk_full(None));
            }
            file.write_all(&chunk).await.map_err(not_written)?;
        }
        file.flush().await.map_err(not_written)?;
        file.sync_all().await.map_err(not_written)?;
        Ok(partial)
    }

    /// The next part of an upload; who sends nothing for so long has gone.
    async fn chunk(&self, field: &mut Field<'_>) -> Result<Option<Bytes>> {
        match timeout(SILENCE, field.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| self.broken(error)),
            Err(_) => Err(stalled()),
        }
    }

    /// Gives a valid file its name; an invalid one is removed. May block.
    fn publish(&self, partial: Partial, name: &str, room: &Room) -> Result<DatasetView> {
        let report = dataset::check(&partial.path).map_err(invalid)?;
        let length = std::fs::metadata(&partial.path).map_err(not_written)?.len();
        let _naming = self.naming.lock().expect("naming does not panic");
        // Others of the same person's may have come meanwhile.
        if room.now()?.is_some_and(|left| length > left) {
            return Err(quota::disk_full(None));
        }
        let name = unused_name(&self.folder, name);
        let path = self.folder.join(&name);
        // First whose it is, so that it is never nobody's.
        self.accounts.set_upload_owner(&name, room.owner())?;
        std::fs::rename(&partial.path, &path).map_err(not_written)?;
        // What is answered is there after a crash, name and all.
        std::fs::File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(not_written)?;
        let (metadata, version) = stat(&path).map_err(not_written)?;
        let report = Arc::new(report);
        self.remember(path.clone(), version, Ok(report.clone()));
        Ok(view(&path, &metadata, Some(&report)))
    }

    /// One's own uploads, or all for whoever may see them, the newest first. May block.
    pub fn list(&self, who: &Who) -> Result<Vec<DatasetView>> {
        let owners = self.accounts.uploads()?;
        let visible = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let owner = name.and_then(|name| owners.get(name));
            owner.map_or(who.is_admin(), |owner| who.owns(owner))
        };
        let unreadable = |error| ApiError::internal("the folder of uploads could not be read", error);
        let mut views = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if let Some(metadata) = self.uploaded(&path).filter(|_| visible(&path)) {
                views.push(view(&path, &metadata, self.check(&path).ok().as_deref()));
            }
        }
        views.sort_by(|a, b| (&b.uploaded_at, &a.filename).cmp(&(&a.uploaded_at, &b.filename)));
        Ok(views)
    }

    /// Path of an upload by its name; anything else, links, odd names and other people's included, is not one. May
    /// block.
    pub fn find(&self, name: &str, who: &Who) -> Result<PathBuf> {
        let path = self.folder.join(name);
        let is_name = Path::new(name).file_name().is_some_and(|file| file == name);
        if is_name && self.uploaded(&path).is_some() {
            let owner = self.accounts.upload_owner(name)?;
            if owner.map_or(who.is_admin(), |owner| who.owns(&owner)) {
                return Ok(path);
            }
        }
        Err(ApiError::not_found("there is no such data set")
            .zh("没有这个数据集")
            .next("GET /api/v1/datasets lists them"))
    }

    pub fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path).map_err(|error| ApiError::internal("the data set could not be removed", error))?;
        self.checks().remove(path);
        if let Some(name) = self.upload_name(path) {
            self.accounts.forget_upload(&name)?;
        }
        Ok(())
    }

    fn uploaded(&self, path: &Path) -> Option<std::fs::Metadata> {
        let hidden = path.file_name()?.as_encoded_bytes().starts_with(b".");
        let metadata = path.symlink_metadata().ok()?;
        (!hidden && metadata.is_file() && is_data_set(path)).then_some(metadata)
    }

    fn remember(&self, path: PathBuf, version: Version, check: Check) {
        let mut checks = self.checks();
        if checks.len() >= REMEMBERED {
            checks.clear();
        }
        checks.insert(path, Checked { version, check });
    }

    fn checks(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Checked>> {
        self.checks.lock().expect("nobody panics while holding the checks")
    }

    fn broken(&self, error: MultipartError) -> ApiError {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return ApiError::too_large(self.limit);
        }
        let reason = error.body_text();
        ApiError::bad_request("multipart", reason.clone()).zh(format!("无法读取上传的表单：{reason}；请重新上传"))
    }
}

/// An upload under way; removed when it is dropped before it got its name.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn new(folder: &Path, name: &str) -> Result<Partial> {
        let random = getrandom::u64().map_err(|error| ApiError::internal("no random numbers", error))?;
        let extension = if is_json_lines(name) { "jsonl" } else { "json" };
        Ok(Partial { path: folder.join(format!("{PARTIAL}{random:016x}.{extension}")) })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it was renamed.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The file name without folders, control and direction characters or leading dots; must end in .json or .jsonl.
fn file_name(given: &str) -> Result<String> {
    let base = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let unseen = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let name: String = base.chars().filter(|c| !unseen(c)).collect();
    let name = name.trim().trim_start_matches('.').trim_start();
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    if !is_data_set(Path::new(name)) || stem.trim().is_empty() {
        return Err(ApiError::bad_request("dataset-name", "only .json and .jsonl files can be uploaded")
            .zh("仅支持 .json 或 .jsonl 文件")
            .next("Name the file something.json or something.jsonl"));
    }
    let room = NAME_LENGTH - extension.len() - 1;
    let end = (0..=room.min(stem.len())).rev().find(|end| stem.is_char_boundary(*end)).unwrap_or(0);
    Ok(format!("{}.{extension}", stem[..end].trim_end()))
}

fn unused_name(folder: &Path, name: &str) -> String {
    let (stem, extension) = name.rsplit_once('.').expect("checked to end in .json or .jsonl");
    let numbered = (2..).map(|number| format!("{stem}-{number}.{extension}"));
    std::iter::once(name.to_owned())
        .chain(numbered)
        .find(|name| folder.join(name).symlink_metadata().is_err())
        .expect("some number is free")
}

fn is_data_set(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json") || e.eq_ignore_ascii_case("jsonl"))
}

fn is_json_lines(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".jsonl")
}

fn stat(path: &Path) -> std::io::Result<(std::fs::Metadata, Version)> {
    let metadata = std::fs::metadata(path)?;
    let version = Version { modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), length: metadata.len() };
    Ok((metadata, version))
}

fn view(path: &Path, metadata: &std::fs::Metadata, report: Option<&DatasetReport>) -> DatasetView {
    let modified = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    let preview = report.map(|report| report.preview.as_slice()).unwrap_or_default();
    DatasetView {
        path: path.display().to_string(),
        filename: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        bytes: metadata.len(),
        format: report.map(|report| report.format.as_str().to_owned()),
        examples: report.map(|report| report.examples),
        uploaded_at: modified.unwrap_or(Timestamp::UNIX_EPOCH).to_string(),
        preview: preview
            .iter()
            .map(|(prompt, answer)| ExamplePreview { prompt: prompt.clone(), answer: answer.clone() })
            .collect(),
    }
}

fn missing(path: &Path, error: &std::io::Error) -> ApiError {
    let path = path.display();
    ApiError::bad_request("dataset-missing", format!("the data set {path} cannot be read: {error}"))
        .zh(format!("数据集文件 {path} 无法读取（{error}）；请先上传数据集，再使用返回的路径"))
        .next("Upload the data set first and pass the path of the answer as dataset_file")
}

pub fn invalid(error: DatasetError) -> ApiError {
    ApiError::bad_request(error.code, error.to_string()).zh(error.message_zh())
}

fn stalled() -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "upload-stalled", "the upload has stalled")
        .zh("上传长时间没有进展，已中止；请重新上传")
        .next("Upload it again")
}

fn not_written(error: std::io::Error) -> ApiError {
    ApiError::internal("the data set could not be written", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_folders_tricks_and_length_but_keep_their_script() {
        let good = [
            ("data.json", "data.json"),
            ("../../etc/cron.d/data.jsonl", "data.jsonl"),
            ("C:\\Users\\ana\\训练 数据.JSON", "训练 数据.JSON"),
            ("...hidden.json", "hidden.json"),
            ("a\u{202e}b\0c\n.json", "abc.json"),
        ];
        for (given, expected) in good {
            assert_eq!(file_name(given).unwrap(), expected);
        }
        for bad in ["", "data", "data.txt", ".json", "../.json", "a.json/", " .jsonl", "a.json.exe"] {
            assert!(file_name(bad).is_err(), "{bad:?}");
        }
        let long = file_name(&("长".repeat(300) + ".jsonl")).unwrap();
        assert!(long.len() <= NAME_LENGTH && long.ends_with("长.jsonl"));
    }
}
