use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::files::{self, Claim};
use crate::process;
use crate::unborn::ATTEMPT_VARIABLE;
use crate::{End, ExitRecord, ProcessIdentity, RunningRecord};

/// Where an attempt stands now.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// Nobody claimed it: launching it is right, and [`stop`](crate::stop) makes sure that nobody ever does.
    NotStarted,
    /// Claimed by a supervisor that lives and has not executed the task's program yet.
    Starting,
    Running(RunningRecord),
    Ended(ExitRecord),
    /// The supervisor was killed before it could record the end; `task` is set while the task's main process lives.
    SupervisorLost {
        task: Option<ProcessIdentity>,
    },
    /// The machine went down before the end was recorded.
    Interrupted,
}

/// The attempts in this folder, at any depth, of which a process of the training lives.
pub fn living(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = std::path::absolute(folder)?;
    let attempts = process::values_of(ATTEMPT_VARIABLE)?.into_iter().map(PathBuf::from);
    Ok(attempts.filter(|attempt| attempt.starts_with(&folder)).collect())
}

/// Reads where an attempt stands, at any time and from any process.
pub fn observe(attempt_dir: &Path) -> io::Result<Observed> {
    let claim = match files::read_claim(attempt_dir) {
        // Claims appear whole; only a machine that went down leaves a damaged one.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Observed::Interrupted),
        claim => claim?,
    };
    let supervisor = match claim {
        None => return Ok(Observed::NotStarted),
        Some(Claim::Void { at }) => return Ok(Observed::Ended(never_started(at))),
        Some(Claim::Supervisor(supervisor)) => supervisor,
    };
    if !supervisor.is_of_this_boot()? {
        let recorded = files::read_exit(attempt_dir).ok().flatten();
        let recorded = recorded.or_else(|| files::read_unpublished_exit(attempt_dir));
        return Ok(recorded.map_or(Observed::Interrupted, Observed::Ended));
    }
    // Whether it lives is asked before its records are read: a dead one does not add to them.
    let alive = supervisor.open()?.is_some();
    if let Some(record) = legible(files::read_exit(attempt_dir))? {
        return Ok(Observed::Ended(record));
    }
    if alive {
        return Ok(legible(files::read_running(attempt_dir))?.map_or(Observed::Starting, Observed::Running));
    }
    if let Some(record) = files::read_unpublished_exit(attempt_dir) {
        return Ok(Observed::Ended(record));
    }
    let task = legible(files::read_spawned(attempt_dir))?.map(|record| record.task);
    let alive = task.as_ref().map(ProcessIdentity::open).transpose()?.flatten().is_some();
    Ok(Observed::SupervisorLost { task: task.filter(|_| alive) })
}

/// A record that somebody damaged is as good as none: who lives, the claim and the kernel tell.
fn legible<T>(record: io::Result<Option<T>>) -> io::Result<Option<T>> {
    match record {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        record => record,
    }
}

fn never_started(at: Timestamp) -> ExitRecord {
    ExitRecord {
        end: End::Cancelled { exit: None },
        started_at: at,
        ended_at: at,
        seconds: 0.0,
        lost_log_bytes: 0,
        supervisor_lost: false,
    }
}
