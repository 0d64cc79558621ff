use std::{path::PathBuf, time::Duration};

use domain::Home;

use crate::StartHours;

#[derive(Debug, Clone)]
pub struct Options {
    pub home: Home,
    /// The `sage` binary, for supervisors and the built-in trainer.
    pub sage: PathBuf,
    pub settings: Settings,
    pub gpu: gpu::Options,
}

#[derive(Debug, Clone)]
pub struct Settings {
    /// Seconds a task may run unless it says otherwise.
    pub default_time_limit: u64,
    /// More waiting tasks than this and whoever submits is warned.
    pub queue_warning: u32,
    /// How long a cancelled training has to save a checkpoint before it is killed.
    pub grace: Duration,
    /// After a failure that was not its own a task is tried again after this, then after six times as long, and so on.
    pub retry_after: Duration,
    /// Bytes of a task's log kept on disk.
    pub log_cap: u64,
    /// What each training is kept under, where it has a control group.
    pub limits: runner::Limits,
    /// So many checkpoints are kept of a fine-tune that does not say; `None`: the trainer's choice.
    pub keep_checkpoints: Option<u32>,
    /// Bytes of the disk to be left free: below it nothing new starts, and what runs pauses before the disk is full.
    pub min_free: u64,
    /// Bytes of the machine's memory to be left free: below it nothing new starts, and below a quarter of it the youngest
    /// training pauses. `None`: 2 GiB, or a twentieth of the memory where that is less.
    pub min_free_memory: Option<u64>,
    /// In the form of `/proc/meminfo`, to be read instead of the machine's own figures.
    pub meminfo: Option<PathBuf>,
    pub policy: scheduler::Policy,
    /// When tasks may start.
    pub start_hours: StartHours,
    /// Tasks that share a GPU are watched for so long before it is judged whether that pays.
    pub packing_trial: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            default_time_limit: 6 * 3600,
            queue_warning: 5,
            grace: Duration::from_secs(30),
            retry_after: Duration::from_secs(10),
            log_cap: 256 << 20,
            limits: runner::Limits::default(),
            keep_checkpoints: None,
            min_free: 5 << 30,
            min_free_memory: None,
            meminfo: None,
            policy: scheduler::Policy::default(),
            start_hours: StartHours::default(),
            packing_trial: Duration::from_secs(120),
        }
    }
}
