use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /api/v1/tasks`: exactly one of `fine_tune` and `command`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitTask {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fine_tune: Option<FineTuneRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandRequest>,
    /// Seconds; left out: the studio's default (6 h unless configured).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_seconds: Option<u64>,
    /// `low`, `normal`, `high` or `urgent`; left out: normal. Urgent ones may interrupt others at a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Tasks that have to end before this one starts: `ID` or `ID,ok` if they must complete, `ID,any` if any end will do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// It does not start before this time (RFC 3339, such as `2026-01-31T22:00:00+08:00`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_after: Option<String>,
    /// It should have ended by then (RFC 3339): the closer that is, the sooner it gets its turn. Nothing is ended for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// So often it is tried again after a failure that was not its own, at most 100; left out: as the studio has it for
    /// its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Accept the task but keep it out of the queue until it is released.
    #[serde(default)]
    pub hold: bool,
    /// If the fine-tune does not fit this machine's GPUs, take the nearest configuration that does; a warning of the
    /// task then says what was changed.
    #[serde(default)]
    pub fit: bool,
}

/// Body of `POST /api/v1/groups`: a task, and exactly one of `over` and `array` that says how the tasks made of it differ.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitGroup {
    pub task: SubmitTask,
    /// Values by parameter; each combination makes a task, at most 1,000. For a fine-tune the parameters are its fields
    /// (`lr`, `rank`, `alpha`, `epochs` and `batch` are short for the usual ones); for a command `{name}` in its arguments
    /// and variables is replaced by the value, which is also in the variable `SAGE_PARAM_<NAME>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub over: BTreeMap<String, Vec<serde_json::Value>>,
    /// The command once for each index: `{index}` is replaced by it, `SAGE_ARRAY_INDEX` and `SAGE_ARRAY_SIZE` are set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<ArrayRange>,
}

/// From the first to the last index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArrayRange {
    pub from: u32,
    pub to: u32,
}

/// Body of `PATCH /api/v1/tasks/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskPatch {
    /// `low`, `normal`, `high` or `urgent`.
    pub priority: String,
}

/// Body of `POST /api/v1/tasks/{id}/before`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutBefore {
    /// A waiting task of the same priority.
    pub task: String,
}

/// Body of `POST /api/v1/gpus/{id}/maintenance`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMaintenance {
    pub on: bool,
}

/// A fine-tune; what is left out gets the default of the field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FineTuneRequest {
    /// A folder, a name from `/api/v1/models`, or a hub id.
    pub model_name: String,
    /// A `path` from `/api/v1/datasets`, or any file the studio can read.
    pub dataset_file: String,
    /// A name from `/api/v1/presets` that fills what is left out below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// `builtin` or `peft`; left out: the one that suits model and machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trainer: Option<String>,
    /// `lora` or `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `sft` or `dpo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_epochs: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_accumulation_steps: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_in_8bit: Option<bool>,
    /// Goes before `load_in_8bit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_in_4bit: Option<bool>,
    /// After an out-of-memory the next attempt may quantise the base further than was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_quantization: Option<bool>,
    /// Recompute activations instead of keeping them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_checkpointing: Option<bool>,
    /// `hf`, `fused` or `chunked`; left out: the trainer's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora_rank: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora_alpha: Option<f64>,
    /// Projections that get an adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora_targets: Option<LoraTargets>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_ratio: Option<f64>,
    /// `cosine`, `linear` or `constant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_grad_norm: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_split: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_every_steps: Option<u64>,
    /// Newest checkpoints that are kept, 1 to 1,000, the best besides; left out: as the studio has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_checkpoints: Option<u32>,
    /// GPUs that train together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// `ddp` or `fsdp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<String>,
}

/// Names of projections such as `q_proj`, or a word for a usual set of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum LoraTargets {
    /// `all` or `qv`.
    Word(String),
    Names(Vec<String>),
}

/// Any program as a task; never goes through a shell.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Absolute working directory.
    pub cwd: String,
    /// Variables added to the studio's own; what they hold is never shown again.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Device memory that it needs on each GPU; left out: unknown, so it gets GPUs to itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// It may run on a GPU beside other tasks; needs `memory_bytes`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub share: bool,
    /// GPUs that it needs at once; left out: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
}

/// Body of `POST /api/v1/datasets/paste`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasteDataset {
    /// File name to store it under; `.json` or `.jsonl`.
    pub filename: String,
    pub content: String,
}
