//! The files of an attempt folder, in the order in which they appear. On a journalling file system each new name costs about as
//! much as an exec, so [`prepare`] makes what can be made before there is an attempt.
//!
//! None is synced: they tell a restarted studio what happened on this boot, and after a power cut the boot id in the
//! claim says that the attempt was interrupted. What must last is committed by the studio itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ExitRecord, ProcessIdentity, RunningRecord, sys};

/// Whose the attempt is. Made by a rename that replaces nothing, so that only one can win and nobody sees it half written.
const CLAIM: &str = "claim";
/// Made ahead for the first who wants to claim the attempt.
const CLAIM_DRAFT: &str = ".claim";
/// The running record, written by the task itself before its program is executed.
const SPAWNED: &str = "spawned";
/// Before it is whole. Only the task of the supervisor whose claim it is writes it.
const SPAWNED_DRAFT: &str = ".spawned";
/// The same, renamed once the program was executed.
const RUNNING: &str = "running";
/// Space for the exit record, set aside before the launch and filled in place, which works on a full disk.
const RECORD: &str = "exit.rec";
/// The same, renamed once it is filled.
const EXIT: &str = "exit";

/// Those whose appearance says that an attempt has come further.
pub(crate) const LANDMARKS: [&str; 3] = [CLAIM, RUNNING, EXIT];

/// Bytes set aside for the exit record.
const RECORD_SIZE: usize = 4096;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Claim {
    Supervisor(ProcessIdentity),
    /// Stopped before it was started: it never will be.
    Void {
        at: Timestamp,
    },
}

/// Makes the folder of an attempt that is still to come. A launch into any other folder makes what it needs itself.
pub fn prepare(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    File::create(dir.join(CLAIM_DRAFT))?;
    File::create(dir.join(SPAWNED_DRAFT))?;
    PreparedExit::new(dir)?.keep(dir).map(drop)
}

/// Returns whether the attempt is now ours; `false` when somebody was first.
pub(crate) fn claim(dir: &Path, claim: &Claim) -> io::Result<bool> {
    let draft = draft(dir, CLAIM);
    // Taken by a name of one's own, so that no other writes into it; where there is none, one is made.
    let _ = fs::rename(dir.join(CLAIM_DRAFT), &draft);
    let renamed = write_whole(&draft, claim).and_then(|()| rename_if_new(&draft, &dir.join(CLAIM)));
    if !matches!(renamed, Ok(true)) {
        let _ = fs::remove_file(&draft);
    }
    renamed
}

/// Returns whether there was nothing of that name yet.
fn rename_if_new(from: &Path, to: &Path) -> io::Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // A file system that cannot.
        Err(Errno::INVAL | Errno::NOSYS) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        },
        Err(error) => Err(error.into()),
    }
}

/// `None`: nobody claimed the attempt. A claim that cannot be read is an error of kind `InvalidData`.
pub(crate) fn read_claim(dir: &Path) -> io::Result<Option<Claim>> {
    read(&dir.join(CLAIM))
}

pub(crate) fn write_spawned(dir: &Path, record: &RunningRecord) -> io::Result<()> {
    let draft = dir.join(SPAWNED_DRAFT);
    write_whole(&draft, record)?;
    fs::rename(draft, dir.join(SPAWNED))
}

pub(crate) fn forget_spawned(dir: &Path) -> io::Result<()> {
    fs::remove_file(dir.join(SPAWNED))
}

pub(crate) fn was_spawned(dir: &Path) -> bool {
    dir.join(SPAWNED).exists()
}

pub(crate) fn publish_running(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join(SPAWNED), dir.join(RUNNING))
}

pub(crate) fn read_running(dir: &Path) -> io::Result<Option<RunningRecord>> {
    read(&dir.join(RUNNING))
}

/// Also finds a task whose supervisor was killed before it could publish the record.
pub(crate) fn read_spawned(dir: &Path) -> io::Result<Option<RunningRecord>> {
    // Looked for in the order of the rename, or it could be missed in both places.
    match read(&dir.join(SPAWNED))? {
        Some(record) => Ok(Some(record)),
        None => read_running(dir),
    }
}

/// The exit record of an attempt that has not ended yet.
pub(crate) struct PreparedExit {
    file: File,
    /// `None`: it was prepared under its own name.
    draft: Option<PathBuf>,
}

impl PreparedExit {
    /// The one that was [prepared](prepare), else a new one. Nobody writes to it before the attempt is theirs.
    pub(crate) fn take(dir: &Path) -> io::Result<PreparedExit> {
        match File::options().write(true).open(dir.join(RECORD)) {
            Ok(file) if file.metadata()?.len() == RECORD_SIZE as u64 => Ok(PreparedExit { file, draft: None }),
            _ => PreparedExit::new(dir),
        }
    }

    fn new(dir: &Path) -> io::Result<PreparedExit> {
        let draft = draft(dir, RECORD);
        let mut file = File::create_new(&draft)?;
        file.write_all(&[b' '; RECORD_SIZE])?;
        Ok(PreparedExit { file, draft: Some(draft) })
    }

    /// Gives the record its name, once the attempt is ours.
    pub(crate) fn keep(self, dir: &Path) -> io::Result<File> {
        if let Some(draft) = self.draft {
            fs::rename(draft, dir.join(RECORD))?;
        }
        Ok(self.file)
    }

    pub(crate) fn discard(self) {
        if let Some(draft) = self.draft {
            let _ = fs::remove_file(draft);
        }
    }
}

pub(crate) fn publish_exit(dir: &Path, prepared: &File, record: &ExitRecord) -> io::Result<()> {
    let mut text = serde_json::to_vec(record)?;
    text.resize(RECORD_SIZE.max(text.len()), b' ');
    prepared.write_all_at(&text, 0)?;
    fs::rename(dir.join(RECORD), dir.join(EXIT))
}

/// For an attempt whose supervisor cannot write it any more.
pub(crate) fn write_exit(dir: &Path, record: &ExitRecord) -> io::Result<()> {
    let draft = draft(dir, EXIT);
    write_whole(&draft, record)?;
    fs::rename(draft, dir.join(EXIT))
}

pub(crate) fn read_exit(dir: &Path) -> io::Result<Option<ExitRecord>> {
    read(&dir.join(EXIT))
}

/// What the supervisor wrote last, if it was killed before it could publish it.
pub(crate) fn read_unpublished_exit(dir: &Path) -> Option<ExitRecord> {
    read(&dir.join(RECORD)).ok().flatten()
}

fn write_whole(path: &Path, value: &impl Serialize) -> io::Result<()> {
    fs::write(path, serde_json::to_vec(value)?)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match sys::read_whole(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: {error}", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A name in the same folder that nobody else uses.
fn draft(dir: &Path, name: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    dir.join(format!(".{name}.{}.{number}", std::process::id()))
}
