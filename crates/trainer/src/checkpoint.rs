//! Checkpoints: everything that training needs to go on as if it had never stopped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::adapter::{self, Adapter};
use crate::optimizer::AdamW;
use crate::weights::to_safetensors;
use crate::{TrainConfig, TrainError, files};

const STATE: &str = "state.json";
const MEANS: &str = "optimizer_means.safetensors";
const SQUARES: &str = "optimizer_squares.safetensors";

/// Where training stands. The order of the examples follows from seed and epoch, the learning rate from the step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Optimizer steps made.
    pub step: u64,
    pub epoch: u32,
    /// Examples of the epoch that were trained on.
    pub position: usize,
    /// Loss of the last step, nats per answer token.
    pub loss: Option<f64>,
    pub validation_loss: Option<f64>,
    /// The checkpoint with the lowest validation loss so far; none without validation.
    #[serde(default)]
    pub best: Option<Best>,
    /// What has to be the same for the numbers to be the same.
    pub identity: Identity,
}

/// A checkpoint that was validated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub step: u64,
    pub loss: f64,
}

/// What a checkpoint depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    pub seed: u64,
    pub rank: usize,
    pub alpha: f64,
    pub targets: Vec<String>,
    pub batch_size: usize,
    pub gradient_accumulation_steps: usize,
    pub total_steps: u64,
    /// Digest of the tokens trained on.
    pub data: u64,
}

pub fn folder(config: &TrainConfig) -> PathBuf {
    config.output_dir.join("checkpoints")
}

pub fn path(config: &TrainConfig, step: u64) -> PathBuf {
    folder(config).join(format!("step-{step}"))
}

/// Writes checkpoints/step-N and drops the oldest beyond `keep_checkpoints`, the best one excepted.
pub fn write(config: &TrainConfig, adapter: &Adapter, adamw: &AdamW, state: &State) -> Result<PathBuf, TrainError> {
    let folder = folder(config);
    let path = path(config, state.step);
    if path.is_dir() {
        return Ok(path);
    }
    let unfinished = folder.join(format!("step-{}.tmp", state.step));
    let io = |e| TrainError::write(&unfinished, e);
    remove(&unfinished).map_err(io)?;
    adapter.write(&unfinished, &config.lora, &config.model_dir)?;
    for (name, numbers) in [(MEANS, &adamw.means), (SQUARES, &adamw.squares)] {
        files::write(&unfinished.join(name), &to_safetensors(adapter.tensors(numbers)))?;
    }
    files::write_json(&unfinished.join(STATE), state)?;
    fs::rename(&unfinished, &path).and_then(|()| files::sync_dir(&folder)).map_err(io)?;
    if config.keep_checkpoints > 0 {
        let best = state.best.map(|best| best.step);
        let old = all(&folder)?.into_iter().rev().skip(config.keep_checkpoints);
        for (_, old) in old.filter(|(step, _)| Some(*step) != best) {
            remove(&old).map_err(|e| TrainError::write(&old, e))?;
        }
    }
    Ok(path)
}

/// Drops the checkpoints of an earlier run, which would pass for this one's.
pub fn start_afresh(config: &TrainConfig) -> Result<(), TrainError> {
    drop_after(config, None)
}

fn drop_after(config: &TrainConfig, step: Option<u64>) -> Result<(), TrainError> {
    for (found, path) in all(&folder(config))? {
        if Some(found) > step {
            remove(&path).map_err(|e| TrainError::write(path, e))?;
        }
    }
    Ok(())
}

/// Puts the newest complete checkpoint's numbers in place; none if there is no checkpoint.
pub fn resume(
    config: &TrainConfig,
    identity: &Identity,
    adapter: &mut Adapter,
    adamw: &mut AdamW,
) -> Result<Option<State>, TrainError> {
    let mut failure = None;
    for (_, path) in all(&folder(config))?.into_iter().rev() {
        match read(&path, identity, adapter) {
            Ok((mut state, parameters, read)) => {
                // Where a damaged newer one knew a better one, this one's best is gone.
                state.best = state.best.filter(|best| self::path(config, best.step).is_dir());
                adapter.parameters = parameters;
                *adamw = read;
                drop_after(config, Some(state.step))?;
                return Ok(Some(state));
            }
            Err(error @ TrainError::CheckpointMismatch { .. }) => return Err(error),
            // A damaged one: an older one may be sound.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(None), Err)
}

type Pairs = Vec<[Vec<f32>; 2]>;

fn read(path: &Path, identity: &Identity, adapter: &Adapter) -> Result<(State, Pairs, AdamW), TrainError> {
    let state: State =
        files::read_json(&path.join(STATE), ["the checkpoint is not complete. Delete it", "检查点不完整。请删除它"])?;
    if let Some((what, there, now)) = state.identity.difference(identity) {
        return Err(TrainError::CheckpointMismatch { path: path.into(), what, there, now });
    }
    let parameters = adapter.read_numbers(&path.join(adapter::WEIGHTS))?;
    let means = adapter.read_numbers(&path.join(MEANS))?;
    let squares = adapter.read_numbers(&path.join(SQUARES))?;
    Ok((state, parameters, AdamW { means, squares }))
}

impl Identity {
    /// How they are cut into micro-batches changes the numbers by rounding only, so another cut may go on.
    fn examples_per_step(&self) -> usize {
        self.batch_size * self.gradient_accumulation_steps
    }

    fn difference(&self, now: &Self) -> Option<(&'static str, String, String)> {
        let pairs = [
            ("seed", self.seed.to_string(), now.seed.to_string()),
            ("lora.rank", self.rank.to_string(), now.rank.to_string()),
            ("lora.alpha", self.alpha.to_string(), now.alpha.to_string()),
            ("lora.targets", self.targets.join(" "), now.targets.join(" ")),
            (
                "batch_size × gradient_accumulation_steps",
                self.examples_per_step().to_string(),
                now.examples_per_step().to_string(),
            ),
            ("number of steps", self.total_steps.to_string(), now.total_steps.to_string()),
            ("data set", format!("{:x}", self.data), format!("{:x}", now.data)),
        ];
        pairs.into_iter().find(|(_, there, now)| there != now)
    }
}

/// The complete checkpoints, oldest first.
fn all(folder: &Path) -> Result<Vec<(u64, PathBuf)>, TrainError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(TrainError::read(folder, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| TrainError::read(folder, e))?.path();
        let step = path.file_name().and_then(|name| name.to_str()?.strip_prefix("step-")?.parse().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort();
    Ok(found)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
