use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ProcessIdentity;

/// Who runs an attempt; written just before the task's program is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningRecord {
    pub supervisor: ProcessIdentity,
    /// The task's main process, which leads its own session and process group.
    pub task: ProcessIdentity,
    pub started_at: Timestamp,
    /// Kept, as all that follows, for whoever has to look after the task when its supervisor was lost.
    pub grace: Duration,
    /// When its time is up, on the monotonic clock of this boot.
    #[serde(default)]
    pub limit_at: Option<Duration>,
    /// `None` in records of earlier versions.
    #[serde(default)]
    pub log: Option<CappedLog>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CappedLog {
    pub path: PathBuf,
    /// Bytes of it kept on disk.
    pub cap: u64,
}

/// How an attempt ended; written once, by its supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitRecord {
    pub end: End,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    /// From start to the end of the task's main process, by the monotonic clock.
    pub seconds: f64,
    /// Bytes at the end of the log's first part that were given up to stay under the log cap.
    pub lost_log_bytes: u64,
    /// The supervisor was killed; the kernel told how the task ended, and `seconds` comes from the wall clock.
    pub supervisor_lost: bool,
}

/// Why an attempt is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum End {
    Exited {
        exit_code: i32,
    },
    Signaled {
        signal: i32,
    },
    /// The kernel killed the task for memory, as far as its counters tell.
    OutOfHostMemory,
    /// The supervisor stopped the task at its time limit, however it then ended.
    TimedOut {
        exit: Exit,
    },
    /// The supervisor was asked to stop the task; `None` when it had not been started yet. A machine that shuts down
    /// asks the same way, so only who asked can tell a cancel from that.
    Cancelled {
        exit: Option<Exit>,
    },
    /// The program could not be executed; nothing of the task ever ran.
    ExecFailed {
        message: String,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl From<Exit> for End {
    fn from(exit: Exit) -> End {
        match exit {
            Exit::Code(exit_code) => End::Exited { exit_code },
            Exit::Signal(signal) => End::Signaled { signal },
        }
    }
}
