//! Everything that can go wrong, each with what to do next.

use std::io;
use std::path::PathBuf;

/// Why training or generation ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("{path} is missing: {hint}")]
    MissingFile { path: PathBuf, hint: &'static str },

    #[error("cannot read {path}: {source}. Check that the file exists and that you may read it")]
    Read { path: PathBuf, source: io::Error },

    #[error("cannot write {path}: {source}. Check that the folder exists and that you may write to it")]
    Write { path: PathBuf, source: io::Error },

    #[error("no space left on the disk of {path}. Free some space, or choose another output folder, then resume")]
    DiskFull { path: PathBuf },

    #[error("{path} is not valid: {reason}. Download the file again, or export the model again")]
    BadFile { path: PathBuf, reason: String },

    #[error("the model architecture {found:?} is not supported. Use a model with one of: {supported}")]
    UnsupportedArchitecture { found: String, supported: String },

    #[error("the model needs {feature}, which this trainer does not support. {hint}")]
    UnsupportedFeature { feature: String, hint: &'static str },

    #[error("the weights have no tensor {name:?}. Check that the model folder is complete and not only an adapter")]
    MissingTensor { name: String },

    #[error(
        "tensor {name:?} has shape {found:?} where {expected:?} is expected. \
         Check that config.json and the weights belong to the same model"
    )]
    TensorShape { name: String, expected: Vec<usize>, found: Vec<usize> },

    #[error("tensor {name:?} has type {found}; use weights in F32, BF16 or F16 (a model that is not quantised)")]
    TensorType { name: String, found: String },

    #[error("the adapter in {path} does not fit the model: {reason}. Use the model that the adapter was trained on")]
    AdapterMismatch { path: PathBuf, reason: String },

    #[error("the chat template fails on example {example}: {reason}. Change the example, or fix the model's template")]
    Template { example: usize, reason: String },

    #[error("the tokenizer fails: {reason}. Check that tokenizer.json belongs to the model")]
    Tokenizer { reason: String },

    #[error("there are no examples to train on. Give at least one conversation with an assistant turn")]
    NoExamples,

    #[error(
        "example {example} has no assistant turn, so there is nothing to learn. Add an answer or remove the example"
    )]
    NoAnswer { example: usize },

    #[error(
        "no example fits: in all {examples}, max_length {max_length} cuts off the whole answer. \
         Set max_length to {needed} or more"
    )]
    NothingFits { examples: usize, max_length: usize, needed: usize },

    #[error("the setting {field} is {value}: {hint}")]
    BadSetting { field: &'static str, value: String, hint: &'static str },

    #[error("the loss became {loss} at step {step}. Lower the learning rate, or set max_grad_norm to 1")]
    Diverged { step: u64, loss: f64 },

    #[error(
        "the checkpoint {path} was made with another {what} (there {there}, now {now}). \
         Start without resume, or restore that setting"
    )]
    CheckpointMismatch { path: PathBuf, what: &'static str, there: String, now: String },

    #[error("this build cannot use {backend}. {hint}")]
    BackendUnavailable { backend: &'static str, hint: &'static str },
}

impl TrainError {
    pub(crate) fn read(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Read { path: path.into(), source }
    }

    /// A failed write; a full disk is told apart because what to do is different.
    pub(crate) fn write(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Write { path, source },
        }
    }

    pub(crate) fn bad_file(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::BadFile { path: path.into(), reason: reason.to_string() }
    }
}
