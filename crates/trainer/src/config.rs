//! What to train and how; every field has its unit.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Settings of one training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Hugging Face folder: config.json, safetensors weights, tokenizer.json.
    pub model_dir: PathBuf,
    /// Receives adapter_config.json, adapter_model.safetensors and checkpoints/step-N/.
    pub output_dir: PathBuf,
    /// Passes over the data.
    pub epochs: u32,
    /// Ends training after so many optimizer steps, even within an epoch; the schedule is fitted to it.
    pub max_steps: Option<u64>,
    /// Examples per micro-batch.
    pub batch_size: usize,
    /// Micro-batches per optimizer step.
    pub gradient_accumulation_steps: usize,
    /// Peak learning rate, reached at the end of the warm-up.
    pub learning_rate: f64,
    /// Tokens per example, prompt included; what is beyond is cut off.
    pub max_length: usize,
    pub lora: LoraConfig,
    /// Share of all steps (0 to 1) in which the learning rate rises linearly from 0.
    pub warmup_ratio: f64,
    /// How the learning rate falls after the warm-up.
    pub schedule: Schedule,
    /// Decoupled weight decay of AdamW: each step shrinks a parameter by learning rate × this.
    pub weight_decay: f64,
    /// L2 norm to which the gradient of all adapter parameters together is clipped; 0 switches clipping off.
    pub max_grad_norm: f64,
    /// Decides adapter initialisation, order of the examples and validation split.
    pub seed: u64,
    /// Share of the examples (0 to below 1) held out for validation.
    pub validation_split: f64,
    /// Optimizer steps between validations; none: once after every epoch. Without held-out examples: never.
    pub eval_every_steps: Option<u64>,
    /// Optimizer steps between checkpoints. None: at the end of an epoch if the last one is a minute old, and within an
    /// epoch if it is ten, so that a small data set spends its time on training and a large one loses little. There is
    /// always one at the end and when stopped.
    pub checkpoint_every_steps: Option<u64>,
    /// Newest checkpoints that are kept; 0 keeps all. With validation the one with the lowest loss is kept besides.
    pub keep_checkpoints: usize,
    /// Go on from the newest complete checkpoint in output_dir/checkpoints, if there is one. The micro-batch may be
    /// another as long as batch_size × gradient_accumulation_steps is the same: the same examples make the same steps.
    pub resume: bool,
    /// Compute the longest micro-batch twice before the first step and report what it takes ([`crate::Event::Probe`]).
    /// Left out where that would be more than 2 % of the tokens to train on.
    pub probe: bool,
    /// CPU threads; none: one per core.
    pub threads: Option<usize>,
    /// Where the arithmetic runs.
    pub device: Backend,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            model_dir: PathBuf::new(),
            output_dir: PathBuf::new(),
            epochs: 3,
            max_steps: None,
            batch_size: 1,
            gradient_accumulation_steps: 8,
            learning_rate: 2e-4,
            max_length: 1024,
            lora: LoraConfig::default(),
            warmup_ratio: 0.03,
            schedule: Schedule::Cosine,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            seed: 42,
            validation_split: 0.0,
            eval_every_steps: None,
            checkpoint_every_steps: None,
            keep_checkpoints: 2,
            resume: false,
            probe: false,
            threads: None,
            device: Backend::Cpu,
        }
    }
}

/// Shape of the adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Inner dimension of the low-rank update.
    pub rank: usize,
    /// The update is scaled by alpha / rank.
    pub alpha: f64,
    /// Projections that get an adapter, by the last part of the module name.
    pub targets: Vec<String>,
}

impl LoraConfig {
    /// The seven projections of a decoder layer.
    pub const ALL_TARGETS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, targets: Self::ALL_TARGETS.map(String::from).to_vec() }
    }
}

/// Course of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Half a cosine down to 0 at the last step.
    Cosine,
    /// A straight line down to 0 at the last step.
    Linear,
    /// Stays at the peak.
    Constant,
}

/// Where the arithmetic runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    Cpu,
    /// A GPU through Vulkan; needs a build with the cargo feature `vulkan`.
    Vulkan,
}

/// Settings of text generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateConfig {
    /// Tokens after which generation ends at the latest.
    pub max_new_tokens: usize,
    /// Divides the logits before sampling; 0 always takes the most likely token.
    pub temperature: f32,
    /// Samples among the most likely tokens whose probabilities add up to this (0 to 1).
    pub top_p: f32,
    /// Decides what is sampled.
    pub seed: u64,
}

impl Default for GenerateConfig {
    fn default() -> Self {
        Self { max_new_tokens: 128, temperature: 0.0, top_p: 1.0, seed: 42 }
    }
}

/// Shape of the random model that [`crate::make_tiny`] writes.
///
/// With the defaults, an adapter of rank 16 and alpha 32 learns 30 short answers by heart in about 60 steps of 10
/// examples at a learning rate of 5e-3, which takes a second or two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TinyConfig {
    /// Decides the weights.
    pub seed: u64,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward block.
    pub intermediate: usize,
    pub layers: usize,
    /// Query heads; divides `hidden`.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Most tokens the tokenizer may learn, special tokens included; at least 260 (256 bytes and the special tokens).
    pub vocab: usize,
    /// Tokens of context that config.json declares.
    pub max_positions: usize,
}

impl Default for TinyConfig {
    fn default() -> Self {
        Self {
            seed: 42,
            hidden: 128,
            intermediate: 384,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            vocab: 1024,
            max_positions: 2048,
        }
    }
}
