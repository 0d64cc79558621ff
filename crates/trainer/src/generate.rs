use std::path::Path;

use crate::{GenerateConfig, TrainError, Turn};

/// Answers a conversation with a model and, if given, an adapter in PEFT layout.
///
/// Returns the text of the answer without special tokens.
pub fn generate(
    model_dir: &Path,
    adapter: Option<&Path>,
    turns: &[Turn],
    config: &GenerateConfig,
) -> Result<String, TrainError> {
    let _ = (model_dir, adapter, turns, config);
    Err(TrainError::NoExamples)
}
