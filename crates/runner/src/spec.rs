use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything a supervisor needs to run one attempt. It travels over a pipe and is never written to disk, because the
/// environment may hold tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Where the records of this launch are kept; made if it is missing. One folder is good for one launch, ever.
    pub attempt_dir: PathBuf,
    /// Program and arguments. A program without a slash is looked up in the task's own `PATH`.
    pub argv: Vec<String>,
    pub cwd: PathBuf,
    /// Changes to the studio's environment: `None` removes a variable.
    pub env: BTreeMap<String, Option<String>>,
    /// Appended to; becomes the task's stdout and stderr.
    pub log: PathBuf,
    /// Bytes of the log kept on disk. When it grows past that, its middle becomes a hole, so that offsets stay valid:
    /// the first MiB and the newest part are kept.
    pub log_cap: u64,
    /// How long the task may take to end after SIGTERM before its whole process tree is killed.
    pub grace: Duration,
    /// How long the task may run, by the monotonic clock.
    pub time_limit: Option<Duration>,
    #[serde(default)]
    pub limits: Limits,
}

/// What the kernel keeps a task under, where it has a control group; elsewhere nothing does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of the machine's memory; all of the task ends when it needs more.
    pub host_memory: Option<u64>,
    /// Processes and threads at once.
    pub processes: Option<u64>,
}
