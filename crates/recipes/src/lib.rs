//! From a recipe to a running training and back: data sets, models, advice, the launch command, progress, results.

pub mod advice;
pub mod archive;
pub mod catalogue;
pub mod choose;
pub mod dataset;
pub mod docs_dataset;
pub mod estimate;
pub mod fit;
mod http;
pub mod hub;
pub mod ladder;
pub mod launch;
pub mod models;
pub mod peft;
mod presets;
pub mod progress;
pub mod samples;
pub mod validate;

pub use presets::{Preset, presets};
pub use validate::{InvalidField, validate};
