//! The training loop.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::adapter::{Adapter, Lora};
use crate::checkpoint::{self, Best, Identity, State};
use crate::cpu::Cpu;
use crate::decoder::{Batch, Model};
use crate::engine::Engine;
use crate::examples::{Encoder, Example};
use crate::model_config::ModelConfig;
use crate::optimizer::{self, AdamW};
use crate::rng::Rng;
use crate::weights::Weights;
use crate::{
    Backend, BestCheckpoint, Conversation, Event, LoraConfig, Summary, TrainConfig, TrainError, files, memory,
};

#[cfg(any(feature = "vulkan", test))]
mod device_memory;
mod probe;

use probe::{Plan, order};

/// Trains an adapter and writes it to `config.output_dir`.
///
/// The loss of a step is the mean over all answer tokens of its micro-batches together (not the mean of their means),
/// an answer's end token included. When `stop` turns true, the micro-batch in work is finished, a checkpoint of the
/// last complete step is written, and the summary says `stopped`. `on_event` runs on the calling thread, and training
/// waits for it.
///
/// What main memory certainly cannot hold is refused before the weights are read
/// ([`TrainError::OutOfHostMemory`]); a GPU whose memory runs out ends with [`TrainError::OutOfDeviceMemory`].
pub fn train(
    config: &TrainConfig,
    data: &[Conversation],
    stop: &AtomicBool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Summary, TrainError> {
    check(config)?;
    match config.device {
        Backend::Cpu => Run::new(Cpu::new(config.threads), config, data)?.start(stop, on_event),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => device_memory::guard(|| {
            Run::new(crate::burn_engine::BurnEngine::vulkan(), config, data)?.start(stop, on_event)
        }),
        #[cfg(not(feature = "vulkan"))]
        Backend::Vulkan => Err(TrainError::BackendUnavailable {
            backend: "vulkan",
            hint: [
                "Build with the cargo feature `vulkan`, or set device to cpu",
                "请启用 cargo 特性 vulkan 重新构建，或将 device 设为 cpu",
            ],
        }),
    }
}

fn check(config: &TrainConfig) -> Result<(), TrainError> {
    let bad = |field, value: String, hint| Err(TrainError::BadSetting { field, value, hint });
    let counts = [
        ("batch_size", config.batch_size),
        ("gradient_accumulation_steps", config.gradient_accumulation_steps),
        ("lora.rank", config.lora.rank),
        ("epochs", config.epochs as usize),
        ("threads", config.threads.unwrap_or(1)),
    ];
    if let Some((field, value)) = counts.into_iter().find(|(_, value)| *value == 0) {
        return bad(field, value.to_string(), ["use 1 or more", "请使用 1 或更大的数"]);
    }
    for (field, value) in [
        ("max_steps", config.max_steps),
        ("eval_every_steps", config.eval_every_steps),
        ("checkpoint_every_steps", config.checkpoint_every_steps),
    ] {
        if value == Some(0) {
            return bad(field, "0".into(), ["use 1 or more, or leave it out", "请使用 1 或更大的数，或留空"]);
        }
    }
    if config.max_length < 2 {
        return bad(
            "max_length",
            config.max_length.to_string(),
            ["use 2 tokens or more", "请使用不小于 2 的 token 数"],
        );
    }
    if !(config.learning_rate > 0.0 && config.learning_rate.is_finite()) {
        let hint = ["use a number above 0, such as 2e-4", "请使用大于 0 的数，例如 2e-4"];
        return bad("learning_rate", config.learning_rate.to_string(), hint);
    }
    if !(config.lora.alpha > 0.0 && config.lora.alpha.is_finite()) {
        let hint = ["use a number above 0, such as twice the rank", "请使用大于 0 的数，例如秩的两倍"];
        return bad("lora.alpha", config.lora.alpha.to_string(), hint);
    }
    for (field, value) in [("weight_decay", config.weight_decay), ("max_grad_norm", config.max_grad_norm)] {
        if !(value >= 0.0 && value.is_finite()) {
            return bad(field, value.to_string(), ["use 0 or a number above it", "请使用 0 或更大的数"]);
        }
    }
    for (field, value) in [("warmup_ratio", config.warmup_ratio), ("validation_split", config.validation_split)] {
        if !(0.0..1.0).contains(&value) {
            return bad(field, value.to_string(), ["use a number from 0 to below 1", "请使用不小于 0 且小于 1 的数"]);
        }
    }
    let known = LoraConfig::ALL_TARGETS;
    let unknown = config.lora.targets.iter().find(|target| !known.contains(&target.as_str()));
    if let Some(target) = unknown.cloned().or(config.lora.targets.is_empty().then(|| "empty".into())) {
        let hint = [
            "use some of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj",
            "请从 q_proj、k_proj、v_proj、o_proj、gate_proj、up_proj、down_proj 中选择",
        ];
        return bad("lora.targets", target, hint);
    }
    Ok(())
}

/// A run with everything loaded.
struct Run<'a, E: Engine> {
    engine: Arc<E>,
    config: &'a TrainConfig,
    model: Model<E>,
    adapter: Adapter,
    adamw: AdamW,
    examples: Vec<Example>,
    held_out: Vec<Example>,
    dropped: usize,
    state: State,
    resumed_from: Option<u64>,
    /// When the last checkpoint was written, or training began.
    saved: Instant,
    /// The most device memory seen, in bytes.
    device_peak: Option<u64>,
}

/// What a run reports to.
type OnEvent<'a> = dyn FnMut(&Event) + Send + 'a;

/// How a step came out.
struct Step {
    loss: f64,
    grad_norm: f64,
    rate: f64,
    tokens: usize,
}

impl<'a, E: Engine + Send> Run<'a, E> {
    fn new(engine: E, config: &'a TrainConfig, data: &[Conversation]) -> Result<Self, TrainError> {
        let model_config = ModelConfig::read(&config.model_dir)?;
        let encoder = Encoder::of_model(&config.model_dir, model_config.vocab)?;
        let (mut examples, dropped) = encode(&encoder, config, data)?;
        let held_out = hold_out(config, &mut examples);
        let plan = Plan::new(config, &examples);
        let weights = Weights::of_model(&config.model_dir)?;
        if engine.device_bytes().is_none() {
            let longest = plan.to_come(0, 0, 0).longest;
            let targets = longest.iter().map(|&i| examples[i].targets()).sum();
            memory::check(&model_config, &weights, &config.lora, [plan.tokens(&longest), targets])?;
        }

        let mut adapter = Adapter::new(&model_config, &config.lora, config.seed);
        let mut adamw = AdamW::new(&adapter);
        let identity = Identity {
            seed: config.seed,
            rank: config.lora.rank,
            alpha: config.lora.alpha,
            targets: config.lora.targets.clone(),
            batch_size: config.batch_size,
            gradient_accumulation_steps: config.gradient_accumulation_steps,
            total_steps: plan.total_steps,
            data: digest(&examples),
        };
        files::create_dir(&checkpoint::folder(config))?;
        let found = match config.resume {
            true => checkpoint::resume(config, &identity, &mut adapter, &mut adamw)?,
            false => {
                checkpoint::start_afresh(config)?;
                None
            }
        };
        let resumed_from = found.as_ref().map(|state| state.step);
        let state = found.unwrap_or(State {
            step: 0,
            epoch: 0,
            position: 0,
            loss: None,
            validation_loss: None,
            best: None,
            identity,
        });
        let model = Model::load(&engine, model_config, &weights, &adapter)?;
        let (engine, saved, device_peak) = (Arc::new(engine), Instant::now(), None);
        Ok(Self {
            engine,
            config,
            model,
            adapter,
            adamw,
            examples,
            held_out,
            dropped,
            state,
            resumed_from,
            saved,
            device_peak,
        })
    }

    /// Trains on one thread of the engine's from beginning to end, so that its memory stays in one place; the events
    /// are handed over one by one.
    fn start(self, stop: &AtomicBool, on_event: &mut dyn FnMut(&Event)) -> Result<Summary, TrainError> {
        let (events, to_handle) = mpsc::sync_channel::<Event>(0);
        let (handled, wait) = mpsc::sync_channel(0);
        let mut hand_over = move |event: &Event| {
            if events.send(event.clone()).is_ok() {
                let _ = wait.recv();
            }
        };
        thread::scope(|scope| {
            let engine = self.engine.clone();
            let training = scope.spawn(move || engine.run(move || self.train(stop, &mut hand_over)));
            for event in to_handle {
                on_event(&event);
                let _ = handled.send(());
            }
            training.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn train(mut self, stop: &AtomicBool, on_event: &mut OnEvent) -> Result<Summary, TrainError> {
        let total_steps = self.state.identity.total_steps;
        on_event(&Event::Start {
            total_steps,
            total_epochs: self.config.epochs,
            examples: self.examples.len(),
            validation_examples: self.held_out.len(),
            dropped_examples: self.dropped,
            trainable_parameters: self.adapter.count(),
            resumed_from_step: self.resumed_from,
        });
        self.probe(stop, on_event);
        self.saved = Instant::now();
        while self.state.step < total_steps {
            let start = Instant::now();
            let Some(step) = self.step(stop)? else {
                self.report_memory(on_event);
                let adapter = self.checkpoint(on_event)?;
                return Ok(self.summary(true, adapter));
            };
            let (seconds, device_bytes) = (start.elapsed().as_secs_f64(), self.device_bytes());
            on_event(&Event::Step {
                step: self.state.step,
                epoch: self.state.epoch as f64 + self.state.position as f64 / self.examples.len() as f64,
                loss: step.loss,
                learning_rate: step.rate,
                grad_norm: step.grad_norm,
                seconds,
                tokens_per_second: step.tokens as f64 / seconds,
                memory_bytes: memory::resident().unwrap_or(0),
                device_bytes,
            });
            let (at, last, epoch_ended) = (self.state.step, self.state.step == total_steps, self.state.position == 0);
            let every = |steps: Option<u64>, otherwise| last || steps.map_or(otherwise, |n| at.is_multiple_of(n));
            let evaluate = every(self.config.eval_every_steps, epoch_ended);
            let mut save = every(self.config.checkpoint_every_steps, checkpoint_due(epoch_ended, self.saved.elapsed()));
            if evaluate && !self.held_out.is_empty() {
                let loss = self.evaluate();
                self.state.validation_loss = Some(loss);
                on_event(&Event::Eval { step: at, loss });
                if self.state.best.is_none_or(|best| loss < best.loss) {
                    save |= checkpoint_due(true, self.saved.elapsed());
                    self.state.best = if save { Some(Best { step: at, loss }) } else { self.state.best };
                }
            }
            if save {
                self.checkpoint(on_event)?;
            }
        }
        self.report_memory(on_event);
        let adapter = self.config.output_dir.clone();
        self.adapter.write(&adapter, &self.config.lora, &self.config.model_dir)?;
        on_event(&Event::End {
            steps: self.state.step,
            loss: self.state.loss.expect("there is at least one step"),
            adapter: adapter.clone(),
            best: self.state.best.map(|Best { step, loss }| BestCheckpoint {
                step,
                loss,
                path: checkpoint::path(self.config, step),
            }),
        });
        Ok(self.summary(false, adapter))
    }

    /// Makes an optimizer step; none when `stop` came before its last micro-batch was done.
    fn step(&mut self, stop: &AtomicBool) -> Result<Option<Step>, TrainError> {
        let config = self.config;
        let order = order(config.seed, self.state.epoch, self.examples.len());
        let count = config.batch_size * config.gradient_accumulation_steps;
        let end = order.len().min(self.state.position + count);
        let chosen: Vec<&Example> = order[self.state.position..end].iter().map(|&i| &self.examples[i]).collect();
        let targets: usize = chosen.iter().map(|example| example.targets()).sum();

        let lora = self.adapter.upload(&*self.engine);
        let mut sum = 0.0;
        let mut gradients: Vec<[Vec<f32>; 2]> = Vec::new();
        for batch in chosen.chunks(config.batch_size) {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let (loss, part) = self.micro_batch(&lora, &Batch::new(batch.iter().copied()), targets);
            sum += loss;
            match gradients.is_empty() {
                true => gradients = part,
                false => {
                    let pairs = gradients.iter_mut().flatten().flatten().zip(part.iter().flatten().flatten());
                    pairs.for_each(|(sum, part)| *sum += part);
                }
            }
        }
        let loss = sum / targets as f64;
        let grad_norm = optimizer::clip(&mut gradients, config.max_grad_norm);
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(TrainError::Diverged { step: self.state.step + 1, loss });
        }
        let rate = optimizer::learning_rate(config, self.state.step, self.state.identity.total_steps);
        self.state.step += 1;
        self.adamw.step(&mut self.adapter, &gradients, self.state.step, rate, config.weight_decay);
        self.state.loss = Some(loss);
        self.state.position = end;
        if end == order.len() {
            self.state.position = 0;
            self.state.epoch += 1;
        }
        let tokens = chosen.iter().map(|example| example.ids.len()).sum();
        Ok(Some(Step { loss, grad_norm, rate, tokens }))
    }

    /// Sum of the losses, and the gradients of the mean over `targets`.
    fn micro_batch(&self, lora: &Lora<E::Matrix>, batch: &Batch, targets: usize) -> (f64, Vec<[Vec<f32>; 2]>) {
        self.engine.run(|| {
            let (loss, gradients) = self.model.gradients(&self.engine, lora, batch, 1.0 / targets as f32);
            let numbers = gradients.into_iter().flatten().map(|pair| pair.map(|m| self.engine.numbers(&m)));
            (loss, numbers.collect())
        })
    }

    fn evaluate(&self) -> f64 {
        let lora = self.adapter.upload(&*self.engine);
        let batches = self.held_out.chunks(self.config.batch_size);
        let sum: f64 =
            batches.map(|batch| self.engine.run(|| self.model.loss(&self.engine, &lora, &Batch::new(batch)))).sum();
        sum / self.held_out.iter().map(|example| example.targets()).sum::<usize>() as f64
    }

    fn checkpoint(&mut self, on_event: &mut OnEvent) -> Result<PathBuf, TrainError> {
        let path = checkpoint::write(self.config, &self.adapter, &self.adamw, &self.state)?;
        self.saved = Instant::now();
        on_event(&Event::Checkpoint { step: self.state.step, path: path.clone() });
        Ok(path)
    }

    fn summary(&self, stopped: bool, adapter: PathBuf) -> Summary {
        Summary {
            steps: self.state.step,
            loss: self.state.loss,
            validation_loss: self.state.validation_loss,
            stopped,
            dropped_examples: self.dropped,
            adapter,
        }
    }
}

/// The examples that fit, and how many do not.
fn encode(encoder: &Encoder, config: &TrainConfig, data: &[Conversation]) -> Result<(Vec<Example>, usize), TrainError> {
    if data.is_empty() {
        return Err(TrainError::NoExamples);
    }
    let (mut examples, mut needed) = (Vec::new(), Vec::new());
    for (i, conversation) in data.iter().enumerate() {
        let mut example = encoder.encode(conversation, i)?;
        needed.extend(example.needed_length());
        if example.truncate(config.max_length) {
            examples.push(example);
        }
    }
    if examples.is_empty() {
        let needed = needed.into_iter().min().unwrap_or(config.max_length);
        let (examples, max_length) = (data.len(), config.max_length);
        return Err(TrainError::NothingFits { examples, max_length, needed });
    }
    let dropped = data.len() - examples.len();
    Ok((examples, dropped))
}

/// Takes the examples for validation out, chosen by the seed; at least one is left to train on.
fn hold_out(config: &TrainConfig, examples: &mut Vec<Example>) -> Vec<Example> {
    let count = (config.validation_split * examples.len() as f64).round() as usize;
    let count = if config.validation_split > 0.0 { count.max(1) } else { 0 };
    let mut order: Vec<usize> = (0..examples.len()).collect();
    Rng::new(config.seed, 2).shuffle(&mut order);
    order.truncate(count.min(examples.len() - 1));
    order.sort();
    let mut held_out: Vec<Example> = order.into_iter().rev().map(|i| examples.remove(i)).collect();
    held_out.reverse();
    held_out
}

/// Whether a checkpoint is due after a step without an interval in steps; `since` the last one.
fn checkpoint_due(epoch_ended: bool, since: Duration) -> bool {
    let pause = if epoch_ended { Duration::from_secs(60) } else { Duration::from_secs(600) };
    since >= pause
}

/// FNV-1a over the tokens and what of them is learned.
fn digest(examples: &[Example]) -> u64 {
    let tokens = examples.iter().flat_map(|e| {
        let tokens = e.ids.iter().zip(&e.answer).map(|(id, answer)| 2 * *id as u64 + *answer as u64);
        tokens.chain([u64::MAX])
    });
    tokens.fold(0xcbf2_9ce4_8422_2325, |hash, token| (hash ^ token).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_cost_small_data_sets_nothing_and_large_ones_lose_ten_minutes_at_most() {
        let due = |epoch_ended, seconds| checkpoint_due(epoch_ended, Duration::from_secs(seconds));
        assert_eq!([due(true, 59), due(true, 60), due(false, 599), due(false, 600)], [false, true, false, true]);
    }
}
