use std::sync::atomic::AtomicBool;

use crate::{Conversation, Event, Summary, TrainConfig, TrainError};

/// Trains an adapter and writes it to `config.output_dir`.
///
/// The loss of a step is the mean over all answer tokens of its micro-batches together (not the mean of their means),
/// an answer's end token included. When `stop` turns true, the micro-batch in work is finished, a checkpoint of the
/// last complete step is written, and the summary says `stopped`.
pub fn train(
    config: &TrainConfig,
    data: &[Conversation],
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Summary, TrainError> {
    let _ = (config, data, stop, on_event);
    Err(TrainError::NoExamples)
}
