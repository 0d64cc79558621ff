//! `sage train`: what every attempt of a fine-tune runs.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::{Duration, Instant},
};

use clap::Args;
use domain::{FineTune, Home, Method, Objective, Recipe};
use recipes::{
    dataset,
    hub::{self, HubOptions},
    models::{self, HubCache, ModelRef},
};
use serde::Serialize;
use serde_json::json;
use trainer::{Backend, Conversation, Event, LoraConfig, Schedule, TrainConfig, TrainError, Turn};

use crate::{
    error::{CliError, Result},
    output,
    text::text,
};

mod fault;

use fault::Fault;

#[derive(Args)]
pub struct Train {
    /// recipe.json, as the studio writes it
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// Receives the adapter, checkpoints/ and metrics.jsonl
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Begin without measuring what the longest batch takes
    #[arg(long)]
    no_probe: bool,
}

/// As if SIGTERM had ended it.
const STOPPED: u8 = 143;

pub fn run(home: &Home, command: Train) -> Result<ExitCode> {
    let path = |path: &Path| std::path::absolute(path).map_err(|error| CliError::file(path, &error));
    let (recipe, output) = (path(&command.recipe)?, path(&command.output)?);
    fs::create_dir_all(&output).map_err(|error| CliError::file(&output, &error))?;
    let metrics = output.join("metrics.jsonl");
    let file = OpenOptions::new().append(true).create(true).open(&metrics);
    let mut run = Run {
        home,
        output,
        metrics: file.map_err(|error| CliError::file(&metrics, &error))?,
        stop: stop_flag()?,
        total_steps: 0,
        grant: std::env::var("SAGE_GRANT_BYTES").ok().and_then(|bytes| bytes.parse().ok()),
    };
    match run.train(&recipe, !command.no_probe) {
        Ok(Outcome::Completed) => Ok(ExitCode::SUCCESS),
        Ok(Outcome::Stopped) => Ok(ExitCode::from(STOPPED)),
        Err(fault) => {
            run.report(&fault.event());
            Err(fault.into())
        }
    }
}

enum Outcome {
    Completed,
    Stopped,
}

struct Run<'a> {
    home: &'a Home,
    output: PathBuf,
    metrics: File,
    stop: Arc<AtomicBool>,
    total_steps: u64,
    /// Bytes promised to this attempt; `None` once they were found to be exceeded, which is said once.
    grant: Option<u64>,
}

impl Run<'_> {
    fn train(&mut self, recipe: &Path, probe: bool) -> Result<Outcome, Fault> {
        let recipe = read_recipe(recipe)?;
        note_differences(&recipe);
        let Some(model_dir) = self.model(&recipe.model_name)? else { return Ok(Outcome::Stopped) };
        let data = read_data(Path::new(&recipe.dataset_file))?;
        say(text(
            format!("模型 {}，{} 条样本", model_dir.display(), data.len()),
            format!("model {}, {} examples", model_dir.display(), data.len()),
        ));
        let config = TrainConfig { probe, ..config(&recipe, model_dir, self.output.clone()) };
        let stop = self.stop.clone();
        let summary = trainer::train(&config, &data, &stop, &mut |event| {
            self.report(event);
            self.say(event);
        })
        .map_err(Fault::Trainer)?;
        if !summary.stopped {
            return Ok(Outcome::Completed);
        }
        say(text(
            format!("已停止，检查点：{}", summary.adapter.display()),
            format!("stopped; checkpoint: {}", summary.adapter.display()),
        ));
        Ok(Outcome::Stopped)
    }

    /// The model's folder; fetched first if it is not on this machine. `None` if it was stopped meanwhile.
    fn model(&mut self, name: &str) -> Result<Option<PathBuf>, Fault> {
        let id = match models::resolve(name, self.home, &HubCache::from_env()).map_err(Fault::Model)? {
            ModelRef::Local(folder) => return Ok(Some(folder)),
            ModelRef::Hub { id } => id,
        };
        let options = HubOptions::from_env(&id, self.home);
        say(text(
            format!("正在从 {} 下载模型 {id}", options.endpoint),
            format!("fetching model {id} from {}", options.endpoint),
        ));
        let stop = self.stop.clone();
        let mut said = Paced::new(Duration::from_secs(5));
        let mut reported = Paced::new(Duration::from_millis(200));
        let fetched = hub::fetch(
            &options,
            &mut |progress| {
                let done = progress.total_bytes == Some(progress.bytes);
                if reported.due() || done {
                    let hub::FetchProgress { file, bytes, total_bytes } = &progress;
                    self.report(&json!({ "event": "fetch", "file": file, "bytes": bytes, "total_bytes": total_bytes }));
                }
                if said.due() || done {
                    let size = output::bytes(progress.bytes);
                    let total = progress.total_bytes.map_or_else(|| "?".into(), output::bytes);
                    say(text(format!("已下载 {size}，共 {total}"), format!("fetched {size} of {total}")));
                }
            },
            &stop,
        );
        match fetched {
            Ok(folder) => Ok(Some(folder)),
            Err(_) if self.stop.load(Ordering::Relaxed) => Ok(None),
            Err(error) => Err(Fault::Hub(error)),
        }
    }

    /// One line of metrics.jsonl, whole or not at all. A full disk must not end a training that could still save.
    fn report(&mut self, event: &impl Serialize) {
        let mut line = serde_json::to_vec(event).expect("events are plain data");
        line.push(b'\n');
        if let Err(error) = self.metrics.write_all(&line) {
            eprintln!("metrics.jsonl: {error}");
        }
    }

    fn compare_with_grant(&mut self, peak: Option<u64>) {
        let (Some(peak), Some(grant)) = (peak, self.grant) else { return };
        if peak > grant {
            self.grant = None;
            let (peak, grant) = (output::bytes(peak), output::bytes(grant));
            say(text(
                format!("警告：训练占用 {peak}，超过分配的 {grant}"),
                format!("warning: the training takes {peak}, more than the {grant} granted to it"),
            ));
        }
    }

    fn say(&mut self, event: &Event) {
        match event {
            Event::Start { total_steps, total_epochs, examples, trainable_parameters, resumed_from_step, .. } => {
                self.total_steps = *total_steps;
                say(text(
                    format!(
                        "开始训练：{examples} 条样本，{total_epochs} 轮，{total_steps} 步，可训练参数 {trainable_parameters}"
                    ),
                    format!(
                        "training: {examples} examples, {total_epochs} epochs, {total_steps} steps, {trainable_parameters} trainable parameters"
                    ),
                ));
                if let Some(step) = resumed_from_step {
                    say(text(
                        format!("从第 {step} 步的检查点继续"),
                        format!("resumed from the checkpoint of step {step}"),
                    ));
                }
            }
            Event::Probe { peak_bytes, seconds_per_step, tokens, .. } => {
                let peak = output::or_dash(peak_bytes.map(output::bytes));
                say(text(
                    format!("试运行：最长的批次（{tokens} token）占用内存 {peak}，每步约 {seconds_per_step:.2} 秒"),
                    format!(
                        "probe: the longest batch ({tokens} tokens) takes {peak}; about {seconds_per_step:.2} s a step"
                    ),
                ));
                self.compare_with_grant(*peak_bytes);
            }
            Event::Memory { peak_bytes, .. } => {
                let peak = output::or_dash(peak_bytes.map(output::bytes));
                say(text(format!("内存峰值 {peak}"), format!("peak memory {peak}")));
                self.compare_with_grant(*peak_bytes);
            }
            Event::Step { step, epoch, loss, learning_rate, tokens_per_second, .. } => say(format!(
                "step {step}/{} epoch {epoch:.2} loss {loss:.4} lr {learning_rate:.2e} {tokens_per_second:.0} tokens/s",
                self.total_steps
            )),
            Event::Eval { step, loss } => {
                say(text(
                    format!("验证：第 {step} 步，loss {loss:.4}"),
                    format!("validation: step {step} loss {loss:.4}"),
                ));
            }
            Event::Checkpoint { path, .. } => {
                say(text(format!("已保存检查点 {}", path.display()), format!("saved checkpoint {}", path.display())));
            }
            Event::End { adapter, .. } => {
                say(text(
                    format!("训练完成，适配器：{}", adapter.display()),
                    format!("done; adapter: {}", adapter.display()),
                ));
            }
        }
    }
}

/// What the recipe asks for and the built-in trainer does otherwise, with the same result.
fn note_differences(recipe: &FineTune) {
    if let Some(bits) = recipe.quantization_bits() {
        say(text(
            format!("提示：内置训练器不使用 {bits} 位量化，以原精度加载模型"),
            format!(
                "note: the built-in trainer does not quantise to {bits} bits; the model is loaded in its own precision"
            ),
        ));
    }
    if !recipe.gradient_checkpointing {
        say(text(
            "提示：内置训练器自行决定保留或重新计算哪些激活值",
            "note: the built-in trainer decides itself which activations to keep and which to recompute",
        ));
    }
}

/// At most once in a while, and the first time.
struct Paced {
    pause: Duration,
    last: Option<Instant>,
}

impl Paced {
    fn new(pause: Duration) -> Paced {
        Paced { pause, last: None }
    }

    fn due(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= self.pause);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}

/// `[HH:MM:SS] text`, the form of every line in a task's log.
fn say(line: impl std::fmt::Display) {
    let now = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::system());
    let _ = writeln!(std::io::stdout(), "{} {line}", now.strftime("[%H:%M:%S]"));
}

/// Turns true on SIGTERM and SIGINT.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    use signal_hook::{
        consts::{SIGINT, SIGTERM},
        flag,
    };
    let stop = Arc::new(AtomicBool::new(false));
    // A second Ctrl-C ends the program at once. The first still finds the flag down, as this comes before raising it.
    // SIGTERM may come twice, from a system that shuts down and from the supervisor, and must leave time to save.
    flag::register_conditional_shutdown(SIGINT, i32::from(STOPPED), stop.clone())
        .and_then(|_| flag::register(SIGINT, stop.clone()))
        .and_then(|_| flag::register(SIGTERM, stop.clone()))
        .map_err(|error| CliError::new("signals", error.to_string()))?;
    Ok(stop)
}

fn read_recipe(path: &Path) -> Result<FineTune, Fault> {
    let content = fs::read_to_string(path).map_err(fault::file(path))?;
    let invalid = |reason| Fault::Recipe { path: path.into(), reason };
    let recipe: Recipe =
        serde_json::from_str(&content).map_err(|error| invalid([error.to_string(), error.to_string()]))?;
    recipes::validate(&recipe).map_err(|field| invalid([field.message_zh, field.message]))?;
    let Recipe::FineTune(recipe) = recipe else {
        return Err(invalid(["它是一个命令，不是微调".into(), "it is a command, not a fine-tune".into()]));
    };
    let beyond = |zh: &str, en: &str| Err(Fault::NotBuiltIn([zh.into(), en.into()]));
    match (recipe.method, recipe.objective) {
        (Method::Full, _) => beyond("全参数微调", "full fine-tuning"),
        (_, Objective::Dpo) => beyond("偏好优化（DPO）", "preference optimisation (DPO)"),
        (Method::Lora, Objective::Sft) => Ok(recipe),
    }
}

fn read_data(path: &Path) -> Result<Vec<Conversation>, Fault> {
    let conversations = dataset::read(path).map_err(|error| Fault::Data { path: path.into(), error })?;
    let turn = |turn: dataset::Turn| Turn { role: role(turn.role), content: turn.content };
    let conversation =
        |example: dataset::Conversation| Conversation { turns: example.turns.into_iter().map(turn).collect() };
    Ok(conversations.into_iter().map(conversation).collect())
}

fn role(role: dataset::Role) -> trainer::Role {
    match role {
        dataset::Role::System => trainer::Role::System,
        dataset::Role::User => trainer::Role::User,
        dataset::Role::Assistant => trainer::Role::Assistant,
    }
}

fn config(recipe: &FineTune, model_dir: PathBuf, output_dir: PathBuf) -> TrainConfig {
    TrainConfig {
        model_dir,
        output_dir,
        epochs: recipe.num_epochs,
        batch_size: recipe.batch_size as usize,
        gradient_accumulation_steps: recipe.gradient_accumulation_steps as usize,
        learning_rate: recipe.learning_rate,
        max_length: recipe.max_length as usize,
        lora: LoraConfig {
            rank: recipe.lora_rank as usize,
            alpha: recipe.lora_alpha,
            targets: match recipe.lora_targets.is_empty() {
                true => LoraConfig::default().targets,
                false => recipe.lora_targets.clone(),
            },
        },
        warmup_ratio: recipe.warmup_ratio,
        schedule: match recipe.schedule {
            domain::Schedule::Cosine => Schedule::Cosine,
            domain::Schedule::Linear => Schedule::Linear,
            domain::Schedule::Constant => Schedule::Constant,
        },
        weight_decay: recipe.weight_decay,
        max_grad_norm: recipe.max_grad_norm,
        seed: recipe.seed,
        validation_split: recipe.validation_split,
        checkpoint_every_steps: recipe.checkpoint_every_steps,
        // An attempt that was broken off is gone on from.
        resume: true,
        device: Backend::Cpu,
        ..TrainConfig::default()
    }
}

pub fn dataset_error(path: &Path, error: &dataset::DatasetError) -> CliError {
    let sentence = text(error.message_zh(), error.to_string());
    CliError::new(error.code, format!("{}: {sentence}", path.display()))
}

pub fn trainer_error(error: &TrainError) -> CliError {
    CliError::new(fault::code(error), text(error.message_zh(), error.to_string()))
}
