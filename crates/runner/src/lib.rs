//! Runs attempts: one supervisor process per attempt, which owns the training's process tree and outlives the studio.
mod process;
mod record;
mod spec;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

pub use process::ProcessIdentity;
pub use record::{End, Exit, ExitRecord, RunningRecord};
pub use spec::LaunchSpec;

/// Body of the hidden `sage supervise`; call it first thing in `main`, before any thread or file exists.
pub fn supervise() -> ExitCode {
    unreachable!("being built")
}

/// Keeps one warm supervisor waiting, so that a launch costs a pipe write and an exec.
pub struct Launcher;

#[derive(Debug, thiserror::Error)]
#[error("being built")]
pub struct LaunchError;

impl Launcher {
    pub fn new(_supervise_argv: Vec<OsString>) -> Launcher {
        unreachable!("being built")
    }

    /// Returns when a supervisor has claimed the attempt. Harmless when repeated.
    pub fn launch(&self, _spec: &LaunchSpec) -> Result<(), LaunchError> {
        unreachable!("being built")
    }
}

/// Where an attempt stands now.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    NotStarted,
    /// Claimed by a supervisor that lives and has not executed the task yet.
    Starting,
    Running(RunningRecord),
    Ended(ExitRecord),
    /// The supervisor was killed; `task` is set while the task's main process lives.
    SupervisorLost {
        task: Option<ProcessIdentity>,
    },
    /// The machine went down meanwhile.
    Interrupted,
}

pub fn observe(_attempt_dir: &Path) -> io::Result<Observed> {
    unreachable!("being built")
}

#[derive(Debug, Clone, PartialEq)]
pub enum Started {
    Running(RunningRecord),
    Over(AttemptEnd),
}

#[derive(Debug, Clone, PartialEq)]
pub enum AttemptEnd {
    Ended(ExitRecord),
    /// The supervisor was killed and nobody saw how the task ended.
    SupervisorLost,
    /// The machine went down meanwhile.
    Interrupted,
}

pub async fn wait_started(_attempt_dir: &Path) -> io::Result<Started> {
    unreachable!("being built")
}

pub async fn wait_end(_attempt_dir: &Path) -> io::Result<AttemptEnd> {
    unreachable!("being built")
}

pub fn stop(_attempt_dir: &Path) -> io::Result<()> {
    unreachable!("being built")
}

pub fn kill_now(_attempt_dir: &Path) -> io::Result<()> {
    unreachable!("being built")
}

pub struct FileFollower;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub offset: u64,
    pub bytes: Vec<u8>,
}

impl FileFollower {
    pub fn open(_path: &Path, _offset: u64) -> io::Result<FileFollower> {
        unreachable!("being built")
    }

    pub async fn next(&mut self) -> io::Result<Chunk> {
        unreachable!("being built")
    }

    pub fn read_now(&mut self) -> io::Result<Option<Chunk>> {
        unreachable!("being built")
    }
}
