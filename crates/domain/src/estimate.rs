use serde::{Deserialize, Serialize};

/// Memory and time predicted for one micro-batch configuration on one device. All sizes in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Peak that the training's own allocator would report.
    pub allocated_bytes: u64,
    /// Peak that the driver would show for the process: allocated, the allocator's slack and the context.
    pub footprint_bytes: u64,
    /// The footprint is expected between these two.
    pub footprint_low_bytes: u64,
    pub footprint_high_bytes: u64,
    /// What the scheduler promises: the footprint with a margin.
    pub grant_bytes: u64,
    /// Of one optimizer step; `None` where the device's speed is unknown.
    pub seconds_per_step: Option<f64>,
    /// Of the whole training; `None` without a data set or a speed.
    pub total_seconds: Option<f64>,
    pub basis: Basis,
    pub breakdown: Breakdown,
}

/// Where the figures of an estimate come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "basis", rename_all = "snake_case")]
pub enum Basis {
    Formula,
    /// Measured in the first steps of this very training.
    Probe,
    /// Corrected by so many finished runs of similar recipes on this machine.
    History {
        runs: u32,
    },
}

/// The parts of the footprint in bytes; they add up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breakdown {
    pub weights: u64,
    pub adapters: u64,
    pub gradients: u64,
    pub optimizer: u64,
    pub activations: u64,
    pub logits: u64,
    pub workspace: u64,
    /// Kept by the allocator, used by nothing.
    pub slack: u64,
    /// The driver's context and the libraries' own memory.
    pub context: u64,
}

impl Breakdown {
    pub fn total(&self) -> u64 {
        let Breakdown { weights, adapters, gradients, optimizer, activations, logits, workspace, slack, context } =
            *self;
        weights + adapters + gradients + optimizer + activations + logits + workspace + slack + context
    }
}

/// What a finished attempt was measured to need, kept to correct later estimates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Shape of the model and of the configuration, as the estimator keys them: equal keys, equal needs.
    pub key: String,
    /// The part of the key that says model, method and trainer, without batch and length.
    pub family: String,
    /// Name of the device it ran on.
    pub device: String,
    /// Measured footprint in bytes; for an attempt that ran out of memory the grant it did not fit in.
    pub peak_bytes: Option<u64>,
    /// What the formula had said for the same.
    pub predicted_bytes: u64,
    pub ran_out_of_memory: bool,
    pub seconds_per_step: Option<f64>,
    pub predicted_seconds_per_step: Option<f64>,
}

/// One change that makes the next attempt need less memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjustment {
    /// At most half the micro-batch, as much more accumulation: the same steps.
    HalveMicroBatch,
    GradientCheckpointing,
    Load8bit,
    Load4bit,
}
