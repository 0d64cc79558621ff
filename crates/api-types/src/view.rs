use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// `pending queued preparing training completed failed cancelled`.
    pub status: String,
    pub created_at: String,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
    pub time_limit_seconds: u64,
    /// `builtin` or `command`.
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
    /// Present while an attempt runs.
    pub attempt: Option<AttemptView>,
    pub warnings: Vec<Message>,
    /// An adapter can be downloaded.
    pub downloadable: bool,
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
    pub memory_bytes: Option<u64>,
    /// Set while the model is being fetched.
    pub fetch: Option<FetchView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FetchView {
    pub bytes: u64,
    pub total_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WaitView {
    /// `devices_busy`, `no_usable_device`, `detecting`.
    pub code: String,
    /// 1 for the task that starts next.
    pub position: u32,
    /// A running task this one waits for.
    pub running: Option<String>,
    pub zh: String,
    pub en: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    pub number: u32,
    /// UUIDs of the granted devices.
    pub devices: Vec<String>,
    pub pid: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskPage {
    /// Newest first.
    pub tasks: Vec<TaskView>,
    /// Pass as `before` for the next page; `null` on the last one.
    pub next_before: Option<String>,
    /// How many tasks there are in each state.
    #[schema(value_type = Object)]
    pub counts: std::collections::BTreeMap<String, u64>,
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
pub struct DeviceView {
    /// UUID.
    pub id: String,
    /// `nvidia`, `simulated` or `cpu`.
    pub kind: String,
    pub index: u32,
    pub name: String,
    pub memory: Option<MemoryView>,
    pub utilisation_percent: Option<u32>,
    pub temperature_celsius: Option<u32>,
    pub power_watts: Option<f64>,
    pub processes: Vec<ProcessView>,
    /// Why nothing may be placed here, if so.
    pub unusable: Option<Message>,
    /// The task that holds it.
    pub task_id: Option<String>,
}

/// Bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryView {
    pub total: u64,
    pub reserved: Option<u64>,
    pub used: u64,
    pub free: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProcessView {
    pub pid: u32,
    pub name: Option<String>,
    pub user: Option<String>,
    pub bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Devices {
    /// Detection has not finished for the first time; the rest is empty then.
    pub detecting: bool,
    /// Seconds since the readings were taken.
    pub age_seconds: f64,
    pub devices: Vec<DeviceView>,
    /// True when the GPUs are made up (`SAGE_GPU_MOCK_COUNT`).
    pub simulated: bool,
    /// The sentence for the banner, the same as `GET /api/system/gpu-info` answers.
    pub recommendation: String,
    pub findings: Vec<Message>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatasetView {
    /// Pass as `dataset_file` when submitting.
    pub path: String,
    pub filename: String,
    pub bytes: u64,
    /// `alpaca`, `sharegpt` or `messages`; `null` if it no longer parses.
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
}
