//! The plan: what runs until when, what waits for what, and what each device says to one task.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AttemptView, HolderView, Message, WaitView};

/// Answer of `GET /api/v1/queue`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    #[serde(flatten)]
    pub control: QueueControl,
    /// The one that has run longest first.
    pub running: Vec<RunningTask>,
    /// In the order in which they get their chance, at most the first 500.
    pub waiting: Vec<WaitingTask>,
    /// How many wait.
    pub total: u64,
    /// More tasks wait than the configured limit.
    pub long: bool,
    /// How good the forecasts of the last 30 days were; `null` while none has come true or false.
    pub forecast_accuracy: Option<ForecastAccuracy>,
}

/// What people have switched for the whole queue, and what time switches by itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueControl {
    /// `open`, `paused` (nothing starts) or `draining` (no new tasks are accepted).
    pub mode: String,
    /// Who paused it or set it to drain, and when.
    pub by: Option<String>,
    pub since: Option<String>,
    /// Devices on which nothing new starts until somebody gives them back.
    pub maintenance: Vec<MaintenanceView>,
    /// Present in quiet hours: no task starts before then.
    pub start_hours_closed_until: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MaintenanceView {
    /// UUID.
    pub device: String,
    /// As people call it, such as `GPU 0`.
    pub label: String,
    pub by: String,
    pub since: String,
}

/// How far off the times were that tasks were told when they joined the queue: absolute errors in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ForecastAccuracy {
    /// Tasks that were told a time and have started since.
    pub tasks: u64,
    pub start_median_seconds: f64,
    pub start_p90_seconds: f64,
    /// Of those that have ended too; `null` while none has.
    pub end_median_seconds: Option<f64>,
    pub end_p90_seconds: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunningTask {
    pub task_id: String,
    pub name: Option<String>,
    pub owner: String,
    /// `low`, `normal`, `high` or `urgent`.
    pub priority: String,
    /// UUIDs of the devices that it holds.
    pub devices: Vec<String>,
    pub started_at: String,
    /// Expected, by its own pace or by its estimate; `null` where unknown.
    pub ends_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WaitingTask {
    pub task_id: String,
    pub name: Option<String>,
    pub owner: String,
    /// `low`, `normal`, `high` or `urgent`.
    pub priority: String,
    /// Devices that it needs at once.
    pub gpus: u32,
    pub wait: WaitView,
}

/// Answer of `GET /api/v1/tasks/{id}/explain`: why the task is where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    pub task_id: String,
    pub name: Option<String>,
    pub owner: String,
    /// `low`, `normal`, `high` or `urgent`.
    pub priority: String,
    pub status: String,
    /// The answer in one sentence.
    pub zh: String,
    pub en: String,
    /// Present exactly while the task is queued.
    pub wait: Option<WaitView>,
    /// Who gets a chance before it, the next one first; at most 50.
    pub before: Vec<WaitingTask>,
    /// What each device says to it while it is queued, when those before it have had their chance.
    pub devices: Vec<DeviceVerdict>,
    /// What it holds while it runs.
    pub attempt: Option<AttemptView>,
    /// When it is expected to end while it runs, or has ended; `null` where unknown.
    pub ends_at: Option<String>,
    /// Present exactly when it failed.
    pub failure: Option<Message>,
}

/// Whether a waiting task could have this device now, and if not, what is in the way first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceVerdict {
    /// UUID.
    pub device: String,
    /// As people call it, such as `GPU 0`.
    pub label: String,
    pub fits: bool,
    /// `fits_now`, `taken_by_tasks`, `device_memory`, `whole_device`, `foreign_use`, `trial_failed`,
    /// `measuring`, `reserved`, `too_large`, `one_mig_instance`, or the code of what ails an unusable device.
    pub code: String,
    pub needed_bytes: Option<u64>,
    /// Free by measurement and promised to nobody.
    pub free_bytes: Option<u64>,
    /// Bytes of the device where they are too few.
    pub total_bytes: Option<u64>,
    /// Tasks that are in the way.
    pub tasks: Vec<String>,
    /// Who has the memory, the largest first.
    pub holders: Vec<HolderView>,
    /// When the task that it is reserved for gets it.
    pub reserved_at: Option<String>,
    pub zh: String,
    pub en: String,
}
