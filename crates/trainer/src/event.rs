//! What a training run reports while it goes on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One line of metrics.jsonl.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Model and data are loaded.
    Start {
        total_steps: u64,
        total_epochs: u32,
        /// Examples trained on.
        examples: usize,
        /// Examples held out.
        validation_examples: usize,
        /// Examples left out because max_length cuts their whole answer off.
        dropped_examples: usize,
        trainable_parameters: u64,
        resumed_from_step: Option<u64>,
    },
    /// The longest micro-batch to come was computed twice before the first step, which changes nothing of the training.
    Probe {
        /// As in `Memory`, with the optimizer's state that the first step is yet to write.
        peak_bytes: Option<u64>,
        allocated_bytes: Option<u64>,
        /// Expected of a step of mean length: the second time's seconds per token, times the tokens of such a step.
        seconds_per_step: f64,
        /// Tokens of that micro-batch.
        tokens: usize,
    },
    /// An optimizer step was made.
    Step {
        step: u64,
        /// Passes over the data so far, with fraction.
        epoch: f64,
        /// Mean negative log-likelihood (nats) of the answer tokens in the whole step.
        loss: f64,
        learning_rate: f64,
        /// L2 norm of the gradient before clipping.
        grad_norm: f64,
        /// Time that the step took.
        seconds: f64,
        /// All tokens of the step, prompts included, per second.
        tokens_per_second: f64,
        /// Resident memory of this process, bytes; 0 where the system does not say.
        memory_bytes: u64,
        /// Device memory that this process's allocator holds, bytes; none on the CPU.
        device_bytes: Option<u64>,
    },
    /// The held-out examples were evaluated; `loss` as in `Step`.
    Eval { step: u64, loss: f64 },
    /// A checkpoint is complete on disk.
    Checkpoint { step: u64, path: PathBuf },
    /// What the training took, said before `End` and when it was stopped.
    Memory {
        /// The most it ever held, in bytes, loading included because a grant has to cover it: device memory, or the
        /// resident memory of the process on the CPU. None where the system does not say.
        peak_bytes: Option<u64>,
        /// The most that the device's allocator had handed out, in bytes; none where it does not say.
        allocated_bytes: Option<u64>,
    },
    /// The adapter is written.
    End {
        steps: u64,
        loss: f64,
        adapter: PathBuf,
        /// Of the checkpoints, the one with the lowest validation loss; none without validation.
        best: Option<BestCheckpoint>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestCheckpoint {
    pub step: u64,
    /// Of the validation.
    pub loss: f64,
    pub path: PathBuf,
}

/// Result of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Optimizer steps made in all, those before a resume included.
    pub steps: u64,
    /// Loss of the last step made, in nats per answer token.
    pub loss: Option<f64>,
    /// Loss of the last validation.
    pub validation_loss: Option<f64>,
    /// Ended by `stop` before the last step; the newest checkpoint holds the state.
    pub stopped: bool,
    /// Examples left out because max_length cuts their whole answer off.
    pub dropped_examples: usize,
    /// Folder with adapter_config.json and adapter_model.safetensors: output_dir, or when stopped the checkpoint.
    pub adapter: PathBuf,
}
