//! What a fine-tune will need, whether that fits, and what would.

use domain::{Basis, Breakdown, Estimate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{FineTuneRequest, Message};

/// Memory on each GPU and time that a fine-tune is predicted to need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EstimateView {
    /// Peak that the training's own allocator would report.
    pub allocated_bytes: u64,
    /// Peak that `nvidia-smi` would show.
    pub footprint_bytes: u64,
    /// The footprint is expected between these two.
    pub footprint_low_bytes: u64,
    pub footprint_high_bytes: u64,
    /// What the task is granted: the footprint with a margin.
    pub grant_bytes: u64,
    /// Of one optimizer step; `null` where the device's speed is unknown.
    pub seconds_per_step: Option<f64>,
    pub total_seconds: Option<f64>,
    /// `formula`, `probe` (measured in the first steps of this training) or `history`.
    pub basis: String,
    /// How many finished runs of this machine corrected it, where the basis is `history`.
    pub runs: Option<u32>,
    pub breakdown: BreakdownView,
}

/// The parts of the footprint in bytes; they add up to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BreakdownView {
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

/// Answer of `POST /api/v1/estimate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EstimateAnswer {
    pub trainer: TrainerChoice,
    /// `null` where the shape of the model is not known before it is fetched.
    pub estimate: Option<EstimateView>,
    pub verdict: VerdictView,
    /// Tokens per example that would fit on the largest GPU, with the rest as asked.
    pub largest_max_length: Option<u32>,
    /// Examples per micro-batch that would fit there, with the rest as asked.
    pub largest_batch_size: Option<u32>,
    /// The nearest configurations that fit, the least change first; empty where it fits as asked.
    pub alternatives: Vec<AlternativeView>,
    pub warnings: Vec<Message>,
}

/// The trainer that will run it, and why this one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrainerChoice {
    /// `builtin` or `peft`.
    pub name: String,
    pub zh: String,
    pub en: String,
}

/// Whether something fits the GPUs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VerdictView {
    /// `fits_now`, `fits_when_free`, `does_not_fit` or `unknown`.
    pub code: String,
    /// One sentence with the numbers.
    pub zh: String,
    pub en: String,
}

/// A configuration near the one that was asked for that fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlternativeView {
    /// What is different, such as `4-bit weights, micro-batch 1 (was 4)`.
    pub changes_zh: String,
    pub changes_en: String,
    /// The fields of the request to replace.
    pub patch: FineTunePatch,
    pub estimate: EstimateView,
    pub verdict: VerdictView,
}

/// Fields of a [`FineTuneRequest`] that are to have other values; the rest stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FineTunePatch {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trainer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_accumulation_steps: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_in_8bit: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_in_4bit: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_checkpointing: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora_rank: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<String>,
}

impl FineTunePatch {
    /// Puts its fields into the request.
    pub fn apply(self, request: &mut FineTuneRequest) {
        fn set<T>(field: &mut Option<T>, value: Option<T>) {
            if value.is_some() {
                *field = value;
            }
        }
        set(&mut request.trainer, self.trainer);
        set(&mut request.method, self.method);
        set(&mut request.batch_size, self.batch_size);
        set(&mut request.gradient_accumulation_steps, self.gradient_accumulation_steps);
        set(&mut request.max_length, self.max_length);
        set(&mut request.load_in_8bit, self.load_in_8bit);
        set(&mut request.load_in_4bit, self.load_in_4bit);
        set(&mut request.gradient_checkpointing, self.gradient_checkpointing);
        set(&mut request.loss, self.loss);
        set(&mut request.lora_rank, self.lora_rank);
        set(&mut request.gpus, self.gpus);
        set(&mut request.parallelism, self.parallelism);
    }
}

/// Answer of `GET /api/v1/recommendations`: every model and method on every GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Recommendations {
    /// Detection has not finished for the first time; the rest is empty then.
    pub detecting: bool,
    /// By device in the order of `/api/v1/devices`, then what all GPUs do together; the largest model first.
    pub recommendations: Vec<Recommendation>,
}

/// One model with one method on one GPU, or on all together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Recommendation {
    /// UUID; `null`: all GPUs together.
    pub device: Option<String>,
    pub gpus: u32,
    pub model_name: String,
    /// Of the model, where known.
    pub parameters: Option<u64>,
    /// `lora`, `qlora8`, `qlora4` or `full`.
    pub method: String,
    pub verdict: VerdictView,
    pub estimate: Option<EstimateView>,
    /// Tokens per example at most with the micro-batch of `request`; `null`: not even the shortest fits.
    pub largest_max_length: Option<u32>,
    /// Examples per micro-batch at most with the length of `request`.
    pub largest_batch_size: Option<u32>,
    /// Submit this; `dataset_file` is empty where none was named. `null` where it does not fit.
    pub request: Option<FineTuneRequest>,
}

impl From<&Estimate> for EstimateView {
    fn from(estimate: &Estimate) -> EstimateView {
        let Estimate { basis, breakdown, .. } = estimate;
        let (basis, runs) = match basis {
            Basis::Formula => ("formula", None),
            Basis::Probe => ("probe", None),
            Basis::History { runs } => ("history", Some(*runs)),
        };
        EstimateView {
            allocated_bytes: estimate.allocated_bytes,
            footprint_bytes: estimate.footprint_bytes,
            footprint_low_bytes: estimate.footprint_low_bytes,
            footprint_high_bytes: estimate.footprint_high_bytes,
            grant_bytes: estimate.grant_bytes,
            seconds_per_step: estimate.seconds_per_step,
            total_seconds: estimate.total_seconds,
            basis: basis.into(),
            runs,
            breakdown: breakdown.into(),
        }
    }
}

impl From<&Breakdown> for BreakdownView {
    fn from(breakdown: &Breakdown) -> BreakdownView {
        let Breakdown { weights, adapters, gradients, optimizer, activations, logits, workspace, slack, context } =
            *breakdown;
        BreakdownView { weights, adapters, gradients, optimizer, activations, logits, workspace, slack, context }
    }
}
