//! `sage train`: what every attempt of a fine-tune runs.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use domain::{FineTune, Home, Method, Objective};
use recipes::dataset;
use trainer::{Backend, Conversation, Event, LoraConfig, Schedule, TrainConfig, TrainError, Turn};

use super::attempt::{self, Attempt, Fault, Outcome, Places, say};
use crate::{
    error::{CliError, Result},
    output,
    text::text,
};

#[derive(Args)]
pub struct Train {
    #[command(flatten)]
    places: Places,
    /// Begin without measuring what the longest batch takes
    #[arg(long)]
    no_probe: bool,
}

pub fn run(home: &Home, command: Train) -> Result<ExitCode> {
    let mut run = Run {
        attempt: Attempt::open(home, &command.places)?,
        total_steps: 0,
        grant: std::env::var("SAGE_GRANT_BYTES").ok().and_then(|bytes| bytes.parse().ok()),
    };
    let outcome = run.train(!command.no_probe);
    run.attempt.end(outcome)
}

struct Run<'a> {
    attempt: Attempt<'a>,
    total_steps: u64,
    /// Bytes promised to this attempt; `None` once they were found to be exceeded, which is said once.
    grant: Option<u64>,
}

impl Run<'_> {
    fn train(&mut self, probe: bool) -> Result<Outcome, Fault> {
        let recipe = self.attempt.read_recipe()?;
        check_method(&recipe)?;
        note_differences(&recipe);
        let Some(model_dir) = self.attempt.model(&recipe.model_name)? else { return Ok(Outcome::Stopped) };
        let data = read_data(Path::new(&recipe.dataset_file))?;
        say(text(
            format!("模型 {}，{} 条样本", model_dir.display(), data.len()),
            format!("model {}, {} examples", model_dir.display(), data.len()),
        ));
        let config = TrainConfig { probe, ..config(&recipe, model_dir, self.attempt.output.clone()) };
        let stop = self.attempt.stop.clone();
        let summary = trainer::train(&config, &data, &stop, &mut |event| {
            self.attempt.report(event);
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
            Event::End { steps, adapter, best, .. } => {
                if let Some(best) = best.as_ref().filter(|best| best.step < *steps) {
                    let (step, loss, path) = (best.step, best.loss, best.path.display());
                    say(text(
                        format!("验证 loss 最低的检查点在第 {step} 步（{loss:.4}）：{path}"),
                        format!("the checkpoint with the lowest validation loss is of step {step} ({loss:.4}): {path}"),
                    ));
                }
                say(text(
                    format!("训练完成，适配器：{}", adapter.display()),
                    format!("done; adapter: {}", adapter.display()),
                ));
            }
        }
    }
}

fn check_method(recipe: &FineTune) -> Result<(), Fault> {
    let beyond = |zh: &str, en: &str| Err(Fault::NotBuiltIn([zh.into(), en.into()]));
    match (recipe.method, recipe.objective) {
        (Method::Full, _) => beyond("全参数微调", "full fine-tuning"),
        (_, Objective::Dpo) => beyond("偏好优化（DPO）", "preference optimisation (DPO)"),
        (Method::Lora, Objective::Sft) => Ok(()),
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
    let defaults = TrainConfig::default();
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
        keep_checkpoints: recipe.keep_checkpoints.map_or(defaults.keep_checkpoints, |kept| kept as usize),
        // An attempt that was broken off is gone on from.
        resume: true,
        device: Backend::Cpu,
        ..defaults
    }
}

pub fn dataset_error(path: &Path, error: &dataset::DatasetError) -> CliError {
    let sentence = text(error.message_zh(), error.to_string());
    CliError::new(error.code, format!("{}: {sentence}", path.display()))
}

pub fn trainer_error(error: &TrainError) -> CliError {
    CliError::new(attempt::code(error), text(error.message_zh(), error.to_string()))
}
