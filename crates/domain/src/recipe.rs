use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What to run: a fine-tune that a trainer of ours understands, or any command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Recipe {
    FineTune(FineTune),
    Command(Command),
}

impl Recipe {
    pub fn trainer(&self) -> TrainerKind {
        match self {
            Recipe::FineTune(fine_tune) => fine_tune.trainer.unwrap_or(TrainerKind::Builtin),
            Recipe::Command(_) => TrainerKind::Command,
        }
    }

    /// Whether its training may run on a GPU beside others'. A command only if it asks to.
    pub fn shares(&self) -> bool {
        match self {
            Recipe::FineTune(_) => true,
            Recipe::Command(command) => command.share,
        }
    }

    /// It saves a checkpoint when it is stopped and goes on from it later.
    pub fn resumes(&self) -> bool {
        matches!(self, Recipe::FineTune(_))
    }

    /// Devices that an attempt needs, all at once; at least 1.
    pub fn gpus(&self) -> u32 {
        match self {
            Recipe::FineTune(fine_tune) => fine_tune.gpus.max(1),
            Recipe::Command(command) => command.gpus.max(1),
        }
    }
}

/// The program that trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainerKind {
    /// Our own, for small models and the CPU.
    Builtin,
    /// transformers and peft in a Python environment that the studio installs.
    Peft,
    Command,
}

impl TrainerKind {
    pub fn as_str(self) -> &'static str {
        match self {
            TrainerKind::Builtin => "builtin",
            TrainerKind::Peft => "peft",
            TrainerKind::Command => "command",
        }
    }
}

/// Which parameters are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Low-rank adapters beside a frozen base, which may be quantised (QLoRA).
    Lora,
    /// All parameters.
    Full,
}

/// What is learnt from the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// To give the answers.
    Sft,
    /// To prefer the chosen answer to the rejected one (direct preference optimisation).
    Dpo,
}

/// How the loss over the vocabulary is computed, which decides its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// All logits at once in 32 bits, as transformers does by itself.
    Hf,
    /// The last layer and the loss as one kernel; no logits are kept.
    Fused,
    /// A few hundred tokens at a time.
    Chunked,
}

/// How several GPUs share one fine-tune.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parallelism {
    /// Each holds the whole model and a part of the batch.
    Ddp,
    /// Each holds a part of model, gradients and optimizer state.
    Fsdp,
}

/// A fine-tune. Defaults are those of the first generation's API where it had the field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FineTune {
    /// A folder, a name under `$SAGE_HOME/models`, something in the Hugging Face cache, or a hub id.
    pub model_name: String,
    /// `None` until it is decided at submission.
    pub trainer: Option<TrainerKind>,
    pub method: Method,
    pub objective: Objective,
    /// Path of the data set on this machine.
    pub dataset_file: String,
    pub num_epochs: u32,
    /// Examples per micro-batch.
    pub batch_size: u32,
    /// Micro-batches per optimizer step.
    pub gradient_accumulation_steps: u32,
    pub learning_rate: f64,
    /// Tokens per example at most; longer ones are cut.
    pub max_length: u32,
    /// Asks for an 8-bit base; a trainer that cannot says so in a warning.
    pub load_in_8bit: bool,
    /// Asks for a 4-bit (NF4) base; goes before `load_in_8bit`.
    pub load_in_4bit: bool,
    /// After an out-of-memory the next attempt may quantise the base further than was asked.
    pub allow_quantization: bool,
    /// Recompute activations in the backward pass instead of keeping them.
    pub gradient_checkpointing: bool,
    /// `None`: the trainer's own choice.
    pub loss: Option<Loss>,
    pub lora_rank: u32,
    pub lora_alpha: f64,
    /// Projections that get an adapter, by the last part of the module name; empty: all seven of a layer.
    pub lora_targets: Vec<String>,
    /// Share of all optimizer steps spent warming up, 0 to 1.
    pub warmup_ratio: f64,
    pub schedule: Schedule,
    pub weight_decay: f64,
    /// Gradients are clipped to this global norm; 0 switches clipping off.
    pub max_grad_norm: f64,
    pub seed: u64,
    /// Share of the examples kept for validation, 0 to 0.5.
    pub validation_split: f64,
    /// Optimizer steps between checkpoints; `None`: the trainer's choice.
    pub checkpoint_every_steps: Option<u64>,
    /// Newest checkpoints that are kept, the best besides; `None`: the trainer's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_checkpoints: Option<u32>,
    /// GPUs that train together.
    pub gpus: u32,
    pub parallelism: Parallelism,
}

impl FineTune {
    /// Bits per weight of a quantised base: 4, 8 or `None`. A full fine-tune trains the weights, so it has none.
    pub fn quantization_bits(&self) -> Option<u32> {
        match self {
            FineTune { method: Method::Full, .. } => None,
            FineTune { load_in_4bit: true, .. } => Some(4),
            FineTune { load_in_8bit: true, .. } => Some(8),
            _ => None,
        }
    }
}

impl Default for FineTune {
    fn default() -> FineTune {
        FineTune {
            model_name: String::new(),
            trainer: None,
            method: Method::Lora,
            objective: Objective::Sft,
            dataset_file: String::new(),
            num_epochs: 3,
            batch_size: 1,
            gradient_accumulation_steps: 16,
            learning_rate: 5e-5,
            max_length: 1024,
            load_in_8bit: true,
            load_in_4bit: false,
            allow_quantization: false,
            gradient_checkpointing: true,
            loss: None,
            lora_rank: 8,
            lora_alpha: 16.0,
            lora_targets: Vec::new(),
            warmup_ratio: 0.03,
            schedule: Schedule::Cosine,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            seed: 42,
            validation_split: 0.0,
            checkpoint_every_steps: None,
            keep_checkpoints: None,
            gpus: 1,
            parallelism: Parallelism::Ddp,
        }
    }
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Cosine,
    Linear,
    Constant,
}

/// Any program as a task. Never goes through a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments, at least the program.
    pub argv: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// Variables added to the studio's own environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Device memory it needs on each GPU, in bytes; `None`: unknown, so it gets devices to itself.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// GPUs it needs at once.
    #[serde(default = "one")]
    pub gpus: u32,
    /// It may run on a GPU beside other tasks if `memory_bytes` is known.
    #[serde(default)]
    pub share: bool,
}

fn one() -> u32 {
    1
}
