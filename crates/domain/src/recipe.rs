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
            Recipe::FineTune(_) => TrainerKind::Builtin,
            Recipe::Command(_) => TrainerKind::Command,
        }
    }
}

/// The program that trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainerKind {
    Builtin,
    Command,
}

/// A LoRA fine-tune. Defaults are those of the first generation's API where it had the field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FineTune {
    /// A folder, a name under `$SAGE_HOME/models`, something in the Hugging Face cache, or a hub id.
    pub model_name: String,
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
    pub lora_rank: u32,
    pub lora_alpha: f64,
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
}

impl Default for FineTune {
    fn default() -> FineTune {
        FineTune {
            model_name: String::new(),
            dataset_file: String::new(),
            num_epochs: 3,
            batch_size: 1,
            gradient_accumulation_steps: 16,
            learning_rate: 5e-5,
            max_length: 1024,
            load_in_8bit: true,
            lora_rank: 8,
            lora_alpha: 16.0,
            warmup_ratio: 0.03,
            schedule: Schedule::Cosine,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            seed: 42,
            validation_split: 0.0,
            checkpoint_every_steps: None,
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
}
