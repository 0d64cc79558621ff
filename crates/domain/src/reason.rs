//! Why tasks wait and why they fail, as data; `sentence` puts it into words.

use std::{mem::discriminant, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::TaskId;

/// Why a queued task is not running now. Every queued task has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitReason {
    /// 1 for the task that starts next.
    pub position: u32,
    /// Shared by all that wait for the same.
    pub cause: Arc<WaitCause>,
    /// Why it was stopped at a checkpoint, if it was; what it waits for now is another matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Arc<WaitCause>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum WaitCause {
    /// Too few of the usable devices are free; `running` holds one of them.
    DevicesBusy {
        running: TaskId,
        /// Devices that tasks have.
        busy: u32,
        /// At once; 0 where it was not told.
        #[serde(default)]
        wanted: u32,
        /// Devices that it could have now, fewer than it wants.
        #[serde(default)]
        free: u32,
    },
    /// No device can be used at present; `detail` says why, for example the state of the only GPU.
    NoUsableDevice { zh: String, en: String },
    /// Detection has not answered yet.
    Detecting,
    /// Something may be free; the planner says so within a moment.
    Planning,
    /// No GPU has so much memory left now; told of the one that comes nearest.
    DeviceMemory {
        /// Bytes.
        needed: u64,
        device: String,
        /// Bytes free there that are not promised to anybody.
        free: u64,
        /// Who has the memory, the largest first.
        holders: Vec<MemoryHolder>,
    },
    /// Wants a device to itself, and other programs have much of each.
    WholeDevice { device: String, free: u64, total: u64, holders: Vec<MemoryHolder> },
    /// Other programs use the device, and the policy is to leave it alone then.
    ForeignUse { device: String, holders: Vec<MemoryHolder> },
    /// No GPU of this machine has so much memory, even empty.
    TooLarge { needed: u64, device: String, largest: u64 },
    /// Wants more devices at once than there are.
    TooManyDevices { wanted: u32, usable: u32 },
    /// It takes devices that cannot be used at present; told of one of them with what ails it.
    DeviceUnusable {
        wanted: u32,
        /// Those that would do and can be used, fewer than it wants.
        usable: u32,
        device: String,
        zh: String,
        en: String,
    },
    /// There was enough memory by the driver's account, but allocating it failed just before the start.
    TrialFailed { device: String, needed: u64, free: Option<u64>, holder: Option<MemoryHolder>, message: String },
    /// First in, first out: the task before it waits itself.
    Behind { task: TaskId },
    /// Another task has to end first.
    Dependency { task: TaskId },
    /// It shared a GPU and was stopped at a checkpoint, to go on with an idle one to itself.
    Moving,
    /// Stopped at a checkpoint to make room for a more urgent or shorter task; goes on from there.
    Preempted { by: TaskId },
    /// It would fit, but would delay a task before it, which gets so many devices at that time.
    Reserved { task: TaskId, devices: u32, at: Timestamp },
    /// Somebody has paused the queue.
    QueuePaused { by: String },
    /// By the schedule no task starts before that.
    QuietHours { until: Timestamp },
    /// It was asked not to start earlier.
    NotBefore { at: Timestamp },
    /// An attempt failed through no fault of the training, and the next comes then.
    Retry { failure: String, retry: u32, at: Timestamp },
    /// Its owner has as much as one may have.
    Quota { kind: QuotaKind, used: u64, limit: u64 },
    /// A training is measured alone before another joins it, so that it can be judged whether sharing pays.
    Measuring { task: TaskId },
    /// Sharing a GPU with `with` brought too little: the two together ran at this percentage of one alone.
    NotPaying { with: TaskId, gain_percent: u32 },
    /// It was stopped at a checkpoint because this service took back the memory that it had left free.
    Reclaimed { device: String, service: String },
    /// Nothing starts while the disk has so little room (bytes).
    DiskFull { free: u64, limit: u64 },
    /// Nothing starts while so little of the machine's memory (bytes) is available.
    HostMemory { free: u64, limit: u64 },
}

/// What an [`Allowance`](crate::Allowance) limits while tasks wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaKind {
    /// Tasks that run at once.
    Running,
    /// GPUs in use at once.
    Gpus,
    /// GPU time of the last 24 hours, in seconds.
    GpuTime,
}

/// Who holds memory of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryHolder {
    /// `None`: the driver does not say who, or it is a promise to `task` that is not used yet.
    pub pid: Option<u32>,
    pub name: Option<String>,
    pub bytes: Option<u64>,
    /// Set if it is one of ours.
    pub task: Option<TaskId>,
}

impl WaitReason {
    pub fn new(position: u32, cause: impl Into<Arc<WaitCause>>) -> WaitReason {
        WaitReason { position, cause: cause.into(), paused: None }
    }

    /// Why it was stopped at a checkpoint, where that is not what it still waits for.
    pub fn paused(&self) -> Option<&WaitCause> {
        let paused = self.paused.as_deref()?;
        (discriminant(paused) != discriminant(&*self.cause)).then_some(paused)
    }

    pub fn code(&self) -> &'static str {
        match *self.cause {
            WaitCause::DevicesBusy { .. } => "devices_busy",
            WaitCause::NoUsableDevice { .. } => "no_usable_device",
            WaitCause::Detecting => "detecting",
            WaitCause::Planning => "planning",
            WaitCause::DeviceMemory { .. } => "device_memory",
            WaitCause::WholeDevice { .. } => "whole_device",
            WaitCause::ForeignUse { .. } => "foreign_use",
            WaitCause::TooLarge { .. } => "too_large",
            WaitCause::TooManyDevices { .. } => "too_many_devices",
            WaitCause::DeviceUnusable { .. } => "device_unusable",
            WaitCause::TrialFailed { .. } => "trial_failed",
            WaitCause::Behind { .. } => "behind",
            WaitCause::Reserved { .. } => "reserved",
            WaitCause::Dependency { .. } => "dependency",
            WaitCause::Moving => "moving",
            WaitCause::Preempted { .. } => "preempted",
            WaitCause::QueuePaused { .. } => "queue_paused",
            WaitCause::QuietHours { .. } => "quiet_hours",
            WaitCause::NotBefore { .. } => "not_before",
            WaitCause::Retry { .. } => "retry",
            WaitCause::Quota { .. } => "quota",
            WaitCause::Measuring { .. } => "measuring",
            WaitCause::NotPaying { .. } => "not_paying",
            WaitCause::Reclaimed { .. } => "reclaimed",
            WaitCause::DiskFull { .. } => "disk_full",
            WaitCause::HostMemory { .. } => "host_memory",
        }
    }

    /// The running task this one waits for, if it waits for one.
    pub fn running(&self) -> Option<TaskId> {
        match *self.cause {
            WaitCause::DevicesBusy { running, .. } => Some(running),
            _ => None,
        }
    }
}

/// Why a task failed: always one of these, never just "failed".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Failure {
    /// The training said itself what is wrong (bad data, model not found, loss not a number, …).
    Reported {
        error_code: String,
        message: String,
        /// The same in Chinese, where the training says it so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_zh: Option<String>,
    },
    /// Ended with this exit code and said nothing we understand; `last_line` is the end of its log.
    ExitCode { exit_code: i32, last_line: Option<String> },
    /// Ended by this signal, which nobody here sent.
    Signal { signal: i32 },
    /// Still running at the task's time limit (seconds).
    TimedOut { limit: u64 },
    /// The program could not be started at all.
    ExecFailed { program: String, message: String },
    /// The supervisor was killed and nobody saw how the training ended.
    SupervisorLost,
    /// The machine went down while the task ran.
    Interrupted,
    /// The kernel ended the training because the machine ran out of memory.
    OutOfHostMemory,
    /// The device had not enough memory for the training.
    OutOfDeviceMemory { message: String },
    /// The device fell off the bus or broke while the task ran on it.
    DeviceLost { device: String, zh: String, en: String },
    /// The studio could not launch the attempt.
    LaunchFailed { message: String },
    /// A task that had to complete first did not.
    DependencyFailed { task: TaskId },
}

impl Failure {
    pub fn code(&self) -> &str {
        match self {
            Failure::Reported { error_code, .. } => error_code,
            Failure::ExitCode { .. } => "exit-code",
            Failure::Signal { .. } => "signal",
            Failure::TimedOut { .. } => "timed-out",
            Failure::ExecFailed { .. } => "exec-failed",
            Failure::SupervisorLost => "supervisor-lost",
            Failure::Interrupted => "interrupted",
            Failure::OutOfHostMemory => "out-of-host-memory",
            Failure::OutOfDeviceMemory { .. } => "out-of-device-memory",
            Failure::DeviceLost { .. } => "device-lost",
            Failure::LaunchFailed { .. } => "launch-failed",
            Failure::DependencyFailed { .. } => "dependency-failed",
        }
    }

    /// Not the training's own fault: the same may well succeed when it is tried again.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Failure::SupervisorLost | Failure::Interrupted | Failure::DeviceLost { .. } | Failure::LaunchFailed { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Language;

    /// One of each, as far apart as their sentences go.
    fn all() -> Vec<WaitCause> {
        let (task, by, at) = (TaskId::new(1, 2), "ana".to_owned(), Timestamp::UNIX_EPOCH);
        let (device, zh, en) = ("GPU 0".to_owned(), "维护中".to_owned(), "in maintenance".to_owned());
        let holder = MemoryHolder { pid: Some(42), name: Some("vllm".into()), bytes: Some(1 << 34), task: None };
        let (needed, free, total, holders) = (1 << 34, 1 << 33, 1 << 35, vec![holder.clone()]);
        let trial = |free| WaitCause::TrialFailed {
            device: "GPU 0".into(),
            needed,
            free,
            holder: Some(holder.clone()),
            message: "out of memory".into(),
        };
        let unusable = |wanted| {
            let (device, zh, en) = (device.clone(), zh.clone(), en.clone());
            WaitCause::DeviceUnusable { wanted, usable: wanted - 1, device, zh, en }
        };
        let quota = |kind| WaitCause::Quota { kind, used: 7200, limit: 3600 };
        vec![
            WaitCause::DevicesBusy { running: task, busy: 1, wanted: 1, free: 0 },
            WaitCause::DevicesBusy { running: task, busy: 2, wanted: 0, free: 0 },
            WaitCause::DevicesBusy { running: task, busy: 2, wanted: 4, free: 2 },
            WaitCause::NoUsableDevice { zh: zh.clone(), en: en.clone() },
            WaitCause::Detecting,
            WaitCause::Planning,
            WaitCause::DeviceMemory { needed, device: device.clone(), free, holders: holders.clone() },
            WaitCause::WholeDevice { device: device.clone(), free, total, holders: holders.clone() },
            WaitCause::ForeignUse { device: device.clone(), holders },
            WaitCause::TooLarge { needed, device: device.clone(), largest: free },
            WaitCause::TooManyDevices { wanted: 4, usable: 2 },
            unusable(1),
            unusable(4),
            trial(Some(free)),
            trial(None),
            WaitCause::Behind { task },
            WaitCause::Dependency { task },
            WaitCause::Moving,
            WaitCause::Preempted { by: task },
            WaitCause::Reserved { task, devices: 1, at },
            WaitCause::Reserved { task, devices: 2, at },
            WaitCause::QueuePaused { by },
            WaitCause::QuietHours { until: at },
            WaitCause::NotBefore { at },
            WaitCause::Retry { failure: "gpu-lost".into(), retry: 2, at },
            quota(QuotaKind::Running),
            quota(QuotaKind::Gpus),
            quota(QuotaKind::GpuTime),
            WaitCause::NotPaying { with: task, gain_percent: 95 },
            WaitCause::Reclaimed { device, service: "vllm".into() },
            WaitCause::DiskFull { free, limit: total },
            WaitCause::HostMemory { free, limit: total },
            WaitCause::Measuring { task },
        ]
    }

    /// How many variants there are: whoever adds one adds it here, and a sample above.
    fn number(cause: &WaitCause) -> usize {
        match cause {
            WaitCause::DevicesBusy { .. } => 0,
            WaitCause::NoUsableDevice { .. } => 1,
            WaitCause::Detecting => 2,
            WaitCause::Planning => 3,
            WaitCause::DeviceMemory { .. } => 4,
            WaitCause::WholeDevice { .. } => 5,
            WaitCause::ForeignUse { .. } => 6,
            WaitCause::TooLarge { .. } => 7,
            WaitCause::TooManyDevices { .. } => 8,
            WaitCause::DeviceUnusable { .. } => 9,
            WaitCause::TrialFailed { .. } => 10,
            WaitCause::Behind { .. } => 11,
            WaitCause::Dependency { .. } => 12,
            WaitCause::Moving => 13,
            WaitCause::Preempted { .. } => 14,
            WaitCause::Reserved { .. } => 15,
            WaitCause::QueuePaused { .. } => 16,
            WaitCause::QuietHours { .. } => 17,
            WaitCause::NotBefore { .. } => 18,
            WaitCause::Retry { .. } => 19,
            WaitCause::Quota { .. } => 20,
            WaitCause::NotPaying { .. } => 21,
            WaitCause::Reclaimed { .. } => 22,
            WaitCause::DiskFull { .. } => 23,
            WaitCause::HostMemory { .. } => 24,
            WaitCause::Measuring { .. } => 25,
        }
    }

    #[test]
    fn every_cause_has_a_code_and_a_sentence_in_both_languages() {
        let mut numbers: Vec<usize> = all().iter().map(number).collect();
        numbers.dedup();
        assert_eq!(numbers, (0..=25).collect::<Vec<_>>(), "a sample of each");
        let is_chinese = |text: &str| text.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter));
        let mut said = std::collections::BTreeSet::new();
        for cause in all() {
            let reason = WaitReason::new(3, cause);
            let (zh, en) = (reason.sentence(Language::Zh), reason.sentence(Language::En));
            assert!(is_chinese(&zh), "{zh}");
            assert!(!en.is_empty() && !is_chinese(&en), "{en}");
            assert!(said.insert(en.clone()), "said of two causes: {en}");
            let stored = serde_json::to_value(&reason).unwrap();
            assert_eq!(stored["cause"]["code"], reason.code());
        }
    }

    /// Reasons of earlier versions are in people's databases.
    #[test]
    fn a_reason_without_the_newer_figures_can_be_read() {
        let stored = r#"{"position":1,"cause":{"code":"devices_busy","running":"finetune_1_2","busy":2}}"#;
        let reason: WaitReason = serde_json::from_str(stored).unwrap();
        assert_eq!(reason.sentence(Language::En), "position 1; all 2 devices are busy");
    }
}
