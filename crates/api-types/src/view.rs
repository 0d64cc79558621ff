use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AlternativeView, EstimateView};

/// A text in both first languages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    pub code: String,
    pub zh: String,
    pub en: String,
}

/// One task as `/api/v1/tasks` and the `task` event show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    pub task_id: String,
    pub name: Option<String>,
    pub owner: String,
    /// `low`, `normal`, `high` or `urgent`.
    pub priority: String,
    /// Tasks that have to end before it starts: `ID` if they must complete, `ID,any` if any end will do.
    pub after: Vec<String>,
    /// Set if it was submitted with others as one: a sweep or an array.
    pub group: Option<GroupMember>,
    /// It does not start earlier, as it was asked.
    pub start_after: Option<String>,
    /// It should have ended by then.
    pub deadline: Option<String>,
    /// So often it is tried again after a failure that was not its own; `null`: as the studio has it for its kind.
    pub retries: Option<u32>,
    /// So often it was tried again.
    pub retried: u32,
    /// `pending queued preparing training completed failed cancelled`.
    pub status: String,
    pub created_at: String,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
    pub time_limit_seconds: u64,
    /// `builtin`, `peft` or `command`.
    pub trainer: String,
    /// The model of a fine-tune, the program of a command.
    pub model_name: String,
    pub dataset_path: Option<String>,
    pub output_dir: String,
    /// The recipe in full, with the defaults that were filled in.
    #[schema(value_type = Object)]
    pub config: serde_json::Value,
    pub progress: ProgressView,
    /// Present exactly while the task is queued.
    pub wait: Option<WaitView>,
    /// Present exactly when it failed.
    pub failure: Option<Message>,
    /// Of a command that failed with an exit code of its own.
    pub exit_code: Option<i32>,
    /// Present while an attempt runs.
    pub attempt: Option<AttemptView>,
    /// What it is expected to need, as last adjusted or measured; `null` where nothing is known.
    pub estimate: Option<EstimateView>,
    /// Made after attempts that ran out of memory, in this order: `halve_micro_batch`, `gradient_checkpointing`,
    /// `load8bit`, `load4bit`.
    pub adjustments: Vec<String>,
    pub warnings: Vec<Message>,
    /// An adapter can be downloaded.
    pub downloadable: bool,
}

/// Answer of `POST /api/v1/tasks`: the task, and what would fit where it does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreatedTask {
    #[serde(flatten)]
    pub task: TaskView,
    /// The nearest configurations that fit this machine, the least change first; empty where the task itself fits.
    pub alternatives: Vec<AlternativeView>,
}

/// A task's place in its group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupMember {
    /// Of the group: the id of its first task.
    pub id: String,
    /// From 0.
    pub index: u32,
    /// Tasks that the group was submitted with.
    pub size: u32,
    /// What sets this one apart, such as `learning_rate=1e-4 lora_rank=8`.
    pub label: String,
}

/// Answer of `POST /api/v1/groups`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreatedGroup {
    /// The group's id.
    pub group: String,
    /// In the order of the values, the last parameter changing fastest.
    pub tasks: Vec<TaskView>,
    pub warnings: Vec<Message>,
}

/// Answer of `GET /api/v1/groups/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupView {
    /// The id of its first task.
    pub id: String,
    pub name: Option<String>,
    pub owner: String,
    /// Tasks that it was submitted with; deleted ones are no longer in `tasks`.
    pub size: u32,
    /// How many of its tasks there are in each state.
    pub counts: BTreeMap<String, u64>,
    /// 0 to 100: the mean of its tasks, where an ended one counts as done.
    pub percent: f64,
    /// The task with the lowest training loss of those that have one.
    pub best: Option<BestMember>,
    /// In the group's order.
    pub tasks: Vec<TaskView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BestMember {
    pub task_id: String,
    pub label: String,
    /// Its last training loss.
    pub loss: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressView {
    /// 0 to 100.
    pub percent: f64,
    pub epoch: f64,
    pub total_epochs: u32,
    pub step: u64,
    pub total_steps: u64,
    pub loss: Option<f64>,
    pub learning_rate: Option<f64>,
    pub grad_norm: Option<f64>,
    pub tokens_per_second: Option<f64>,
    /// Host memory that the training holds now.
    pub memory_bytes: Option<u64>,
    /// Device memory that it holds now, as the trainer knows it.
    pub device_bytes: Option<u64>,
    /// The most that it ever held where its grant is: device, or host on the CPU.
    pub peak_bytes: Option<u64>,
    /// The most that its allocator had handed out.
    pub peak_allocated_bytes: Option<u64>,
    /// Of one optimizer step.
    pub seconds_per_step: Option<f64>,
    /// Set while the model is being fetched.
    pub fetch: Option<FetchView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FetchView {
    pub bytes: u64,
    pub total_bytes: Option<u64>,
}

/// Why a queued task is not running now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WaitView {
    /// `devices_busy`, `no_usable_device`, `detecting`, `planning`, `device_memory`, `whole_device`, `foreign_use`, `too_large`,
    /// `too_many_devices`, `device_unusable`, `trial_failed`, `behind`, `reserved`, `dependency`, `preempted`, `moving`,
    /// `queue_paused`, `quiet_hours`, `not_before`, `retry`, `quota`, `measuring`, `not_paying`, `reclaimed`, `disk_full` or
    /// `host_memory`.
    pub code: String,
    /// 1 for the task that starts next.
    pub position: u32,
    /// A task this one waits for.
    pub running: Option<String>,
    /// The device that comes nearest, as people call it.
    pub device: Option<String>,
    /// On each GPU.
    pub needed_bytes: Option<u64>,
    /// Free on `device` and not promised to anybody.
    pub free_bytes: Option<u64>,
    /// Who has the memory of `device`, the largest first.
    pub holders: Vec<HolderView>,
    /// Not before then: the end of quiet hours, the time it was asked for, its next retry, a reservation.
    pub at: Option<String>,
    /// Who paused the queue, or which service took its memory back.
    pub by: Option<String>,
    /// What its owner uses of `limit`, in the unit of `quota`; or the bytes that are free on the disk or in memory.
    pub used: Option<u64>,
    /// What its owner may use; or the bytes that have to be free there.
    pub limit: Option<u64>,
    /// Which allowance is used up: `running` (tasks), `gpus` or `gpu_time` (seconds in 24 hours).
    pub quota: Option<String>,
    /// When it is expected to start and to end, if all goes as estimated; `null` where that cannot be told.
    pub starts_at: Option<String>,
    pub ends_at: Option<String>,
    /// Why it was stopped at a checkpoint, if it was and has not gone on since; the sentences have it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Message>,
    pub zh: String,
    pub en: String,
}

/// Who holds memory of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HolderView {
    /// `null`: the driver does not say who, or it is the grant of `task_id`.
    pub pid: Option<u32>,
    pub name: Option<String>,
    pub bytes: Option<u64>,
    pub task_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    pub number: u32,
    /// UUIDs of the granted devices.
    pub devices: Vec<String>,
    pub grants: Vec<GrantView>,
    pub pid: Option<u32>,
}

/// What an attempt was promised on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    /// UUID.
    pub device: String,
    /// `null`: the whole device.
    pub bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskPage {
    /// Newest first.
    pub tasks: Vec<TaskView>,
    /// Pass as `before` for the next page; `null` on the last one.
    pub next_before: Option<String>,
    /// How many tasks there are in each state.
    #[schema(value_type = Object)]
    pub counts: BTreeMap<String, u64>,
    /// Id of the newest event contained in this answer: follow `/api/v1/events` from here.
    pub last_event_id: u64,
}

/// One line of a task's history: who moved it from where to where, when and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JournalEntry {
    pub seq: u64,
    pub at: String,
    pub task_id: String,
    pub who: String,
    pub from: Option<String>,
    pub to: String,
    pub why: String,
    /// The same in Chinese.
    #[serde(default)]
    pub why_zh: String,
}

/// One point of the loss curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricPoint {
    pub step: u64,
    pub epoch: f64,
    pub loss: f64,
    pub learning_rate: Option<f64>,
    pub grad_norm: Option<f64>,
    pub tokens_per_second: Option<f64>,
    pub memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EvalPoint {
    pub step: u64,
    pub loss: f64,
}

/// Answer of `/api/v1/tasks/{id}/metrics`; at most 2000 evenly thinned training points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Metrics {
    pub train: Vec<MetricPoint>,
    pub eval: Vec<EvalPoint>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatasetView {
    /// Pass as `dataset_file` when submitting.
    pub path: String,
    pub filename: String,
    pub bytes: u64,
    /// `alpaca`, `sharegpt`, `messages` or `preference`; `null` if it no longer parses.
    pub format: Option<String>,
    pub examples: Option<u64>,
    pub uploaded_at: String,
    /// The first examples as question and answer, cut to a readable length.
    pub preview: Vec<ExamplePreview>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExamplePreview {
    pub prompt: String,
    pub answer: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelView {
    /// Pass as `model_name` when submitting.
    pub name: String,
    /// `base` or `finetuned`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `local` (ready on this machine) or `hub` (fetched on first use).
    pub source: String,
    pub description: String,
    /// Bytes on disk, or to fetch; `null` where unknown.
    pub bytes: Option<u64>,
    pub task_id: Option<String>,
    pub created_at: Option<String>,
}

/// A named set of hyper-parameters for the create form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Preset {
    /// `safe`, `balanced` or `fast`.
    pub name: String,
    pub title_zh: String,
    pub title_en: String,
    pub num_epochs: u32,
    pub batch_size: u32,
    pub gradient_accumulation_steps: u32,
    pub learning_rate: f64,
    pub max_length: u32,
    pub lora_rank: u32,
    pub lora_alpha: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StudioView {
    pub version: String,
    pub home: String,
    pub pid: u32,
    pub started_at: String,
    pub default_time_limit_seconds: u64,
    /// More waiting tasks than this and the user is warned.
    pub queue_warning: u32,
    /// Largest upload, in bytes.
    pub upload_limit_bytes: u64,
    /// Whether `/api` asks for a sign-in.
    pub authentication: bool,
    /// Databases that were found damaged and replaced, the newest first, until somebody deletes the damaged file.
    pub recoveries: Vec<RecoveryView>,
    /// Databases that were found damaged while the studio runs: `studio` or `audit`. The next start repairs them.
    #[serde(default)]
    pub damaged: Vec<String>,
    /// What the machine is short of now, so that no task starts: `disk-full`, `host-memory`.
    #[serde(default)]
    pub short_of: Vec<Message>,
}

/// A damaged database that was replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecoveryView {
    pub at: String,
    /// `studio` (tasks, accounts, journal) or `audit`.
    pub database: String,
    /// When the backup was made that took its place; null if there was no good one.
    pub backup_of: Option<String>,
}
