//! The result of a task as one file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use domain::TaskId;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{CWD, Dir, Mode, OFlags, openat};

const ADAPTER: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
/// Folder of a full fine-tune's model.
const MODEL: &str = "model";

/// The rest, each taken if it is there.
const COMPANIONS: [&str; 12] = [
    "adapter_config.json",
    "README.md",
    "recipe.json",
    "training.log",
    "metrics.jsonl",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

/// `{id}_finetuned_model.tar.gz`
pub fn file_name(id: TaskId) -> String {
    format!("{id}_finetuned_model.tar.gz")
}

/// Writes a gzipped tar with the task's adapter (or model), configuration, log and metrics in a folder
/// `{id}_finetuned_model`.
///
/// Takes regular files only and follows no link, because a training could have put one there. Fails with
/// [`io::ErrorKind::NotFound`] if there is neither.
pub fn write_adapter_archive(task_dir: &Path, id: TaskId, out: impl Write) -> io::Result<()> {
    let folder = open_folder(CWD, task_dir)?;
    let mut files = Vec::new();
    for name in ADAPTER {
        files.extend(open(&folder, name)?.map(|file| (name.to_owned(), file)));
    }
    if files.is_empty() {
        files = model(&folder)?;
    }
    if files.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the task has no adapter and no model. Wait for the training to complete",
        ));
    }
    for name in COMPANIONS {
        files.extend(open(&folder, name)?.map(|file| (name.to_owned(), file)));
    }

    // Weights hardly compress: the fastest level is the right one.
    let mut archive = tar::Builder::new(GzEncoder::new(out, Compression::fast()));
    for (name, file) in files {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            continue;
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(metadata.len());
        header.set_mode(0o644);
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        // A log may grow meanwhile; what the header promises is what follows it.
        let content = ExactLength { file, left: metadata.len() };
        archive.append_data(&mut header, format!("{id}_finetuned_model/{name}"), content)?;
    }
    archive.into_inner()?.finish()?.flush()
}

/// What a full fine-tune leaves in `model/`, if there are weights among it.
fn model(task: &OwnedFd) -> io::Result<Vec<(String, File)>> {
    let folder = match open_folder(task, MODEL) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let mut files = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            files.extend(open(&folder, &name)?.map(|file| (format!("{MODEL}/{name}"), file)));
        }
    }
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    let complete = files.iter().any(|(name, _)| name.ends_with(".safetensors"));
    Ok(if complete { files } else { Vec::new() })
}

fn open_folder(at: impl AsFd, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    Ok(openat(at, path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Not through a link, and not blocking, so that a pipe does not wait for a writer.
fn open(folder: &OwnedFd, name: &str) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads so many bytes and takes fewer for an error.
struct ExactLength {
    file: File,
    left: u64,
}

impl Read for ExactLength {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter while it was archived"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
