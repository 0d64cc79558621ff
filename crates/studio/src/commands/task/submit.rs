use std::{collections::BTreeMap, path::Path, process::ExitCode};

use api_types::{CommandRequest, FineTuneRequest, SubmitTask, TaskView};
use clap::Args;
use client::Client;
use domain::Home;

use super::follow;
use crate::{
    config::parse_duration,
    error::{CliError, Result},
    output,
    text::text,
};

#[derive(Args)]
pub struct Submit {
    /// A folder, a name from `sage model list`, or a hub id
    #[arg(long)]
    model: Option<String>,
    /// The data set, see `sage dataset check`
    #[arg(long, value_name = "FILE")]
    data: Option<String>,
    /// Fills what is not given: safe, balanced or fast
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Passes over the data
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Examples per micro-batch
    #[arg(long, value_name = "N")]
    batch_size: Option<u32>,
    /// Micro-batches per optimizer step
    #[arg(long, value_name = "N")]
    gradient_accumulation_steps: Option<u32>,
    /// Peak learning rate
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
    /// Tokens per example at most
    #[arg(long, value_name = "N")]
    max_length: Option<u32>,
    /// Load the model in 8 bits, where the trainer can
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    load_in_8bit: Option<bool>,
    /// Inner dimension of the adapter
    #[arg(long, value_name = "N")]
    lora_rank: Option<u32>,
    /// The adapter is scaled by alpha / rank
    #[arg(long, value_name = "X")]
    lora_alpha: Option<f64>,
    /// Share of the steps spent warming up, 0 to 1
    #[arg(long, value_name = "X")]
    warmup_ratio: Option<f64>,
    /// How the learning rate falls: cosine, linear or constant
    #[arg(long, value_name = "WORD")]
    schedule: Option<String>,
    /// Decoupled weight decay of AdamW
    #[arg(long, value_name = "X")]
    weight_decay: Option<f64>,
    /// Clips the gradient to this norm; 0: never
    #[arg(long, value_name = "X")]
    max_grad_norm: Option<f64>,
    /// Decides order, initialisation and split
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Share of the examples kept for validation, 0 to 0.5
    #[arg(long, value_name = "X")]
    validation_split: Option<f64>,
    /// Optimizer steps between checkpoints
    #[arg(long, value_name = "N")]
    checkpoint_every_steps: Option<u64>,

    /// A name to know it by
    #[arg(long)]
    name: Option<String>,
    /// Ends the task after this long, such as 90m or 2h
    #[arg(long, value_name = "TIME")]
    time_limit: Option<String>,
    /// Keep it out of the queue until `sage task release`
    #[arg(long)]
    hold: bool,
    /// Show the log until the task ends, and end with its exit status
    #[arg(short, long)]
    follow: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "follow")]
    json: bool,
    /// Set a variable for the command; repeat for more
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Any program with its arguments, run here, with the granted GPUs
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub fn run(home: &Home, command: Submit) -> Result<ExitCode> {
    let (follow, json) = (command.follow, command.json);
    let task = request(command)?;
    let client = Client::connect(home)?;
    let view = client.submit(&task)?;
    if json {
        output::json(&view)?;
        return Ok(ExitCode::SUCCESS);
    }
    announce(&view)?;
    if follow { follow::follow(home, &client, &view.task_id) } else { Ok(ExitCode::SUCCESS) }
}

/// The id alone on stdout, so that scripts can take it; the rest on stderr.
fn announce(view: &TaskView) -> Result<()> {
    output::print(&format!("{}\n", view.task_id))?;
    for warning in &view.warnings {
        eprintln!("{}: {}", text("注意", "note"), text(&warning.zh, &warning.en));
    }
    match (view.status.as_str(), &view.wait) {
        ("pending", _) => eprintln!(
            "{}",
            text("已保留，用 sage task release 放入队列", "held; sage task release puts it into the queue")
        ),
        (_, Some(wait)) => eprintln!("{}", text(&wait.zh, &wait.en)),
        _ => {}
    }
    Ok(())
}

fn request(submit: Submit) -> Result<SubmitTask> {
    let time_limit_seconds = submit
        .time_limit
        .as_deref()
        .map(|word| match parse_duration(word) {
            Ok(limit) if !limit.is_zero() => Ok(limit.as_secs()),
            _ => Err(CliError::usage(
                "time-limit-invalid",
                text(format!("无法理解时间限制 {word:?}"), format!("{word:?} is not a time limit")),
            )
            .next(text("例如 90s、30m、6h、1h30m 或 2d", "write for example 90s, 30m, 6h, 1h30m or 2d"))),
        })
        .transpose()?;
    let task = SubmitTask { name: submit.name.clone(), time_limit_seconds, hold: submit.hold, ..SubmitTask::default() };
    if submit.command.is_empty() {
        if !submit.env.is_empty() {
            return Err(CliError::usage(
                "env-without-command",
                text("--env 只用于命令任务", "--env is only for commands"),
            )
            .next(text("在 -- 之后写命令", "put the command after --")));
        }
        Ok(SubmitTask { fine_tune: Some(fine_tune(submit)?), ..task })
    } else {
        Ok(SubmitTask { command: Some(command_task(submit)?), ..task })
    }
}

fn fine_tune(submit: Submit) -> Result<FineTuneRequest> {
    let (Some(model), Some(data)) = (&submit.model, &submit.data) else {
        return Err(CliError::usage(
            "nothing-to-submit",
            text("微调需要 --model 和 --data", "a fine-tune needs --model and --data"),
        )
        .next(text(
            "或在 -- 之后写任意命令：sage task submit -- python train.py",
            "or put any command after --: sage task submit -- python train.py",
        )));
    };
    let dataset_file = match std::fs::canonicalize(data) {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(error) => return Err(CliError::file(Path::new(data), &error)),
    };
    // A folder here has another name for the studio, which works elsewhere.
    let model_name = match std::fs::canonicalize(model) {
        Ok(path) if path.is_dir() => path.to_string_lossy().into_owned(),
        _ => model.clone(),
    };
    Ok(FineTuneRequest {
        model_name,
        dataset_file,
        preset: submit.preset,
        num_epochs: submit.epochs,
        batch_size: submit.batch_size,
        gradient_accumulation_steps: submit.gradient_accumulation_steps,
        learning_rate: submit.learning_rate,
        max_length: submit.max_length,
        load_in_8bit: submit.load_in_8bit,
        lora_rank: submit.lora_rank,
        lora_alpha: submit.lora_alpha,
        warmup_ratio: submit.warmup_ratio,
        schedule: submit.schedule,
        weight_decay: submit.weight_decay,
        max_grad_norm: submit.max_grad_norm,
        seed: submit.seed,
        validation_split: submit.validation_split,
        checkpoint_every_steps: submit.checkpoint_every_steps,
        ..FineTuneRequest::default()
    })
}

fn command_task(submit: Submit) -> Result<CommandRequest> {
    let fine_tune_only = [
        ("--model", submit.model.is_some()),
        ("--data", submit.data.is_some()),
        ("--preset", submit.preset.is_some()),
        ("--epochs", submit.epochs.is_some()),
    ];
    if let Some((name, _)) = fine_tune_only.into_iter().find(|(_, given)| *given) {
        return Err(CliError::usage(
            "option-not-for-commands",
            text(
                format!("{name} 只用于微调，不能与 -- 后的命令一起使用"),
                format!("{name} is for fine-tunes, not for a command after --"),
            ),
        )
        .next(text("去掉其中之一", "leave one of the two out")));
    }
    let mut env = BTreeMap::new();
    for pair in &submit.env {
        let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(CliError::usage(
                "env-invalid",
                text(format!("--env {pair} 无效"), format!("--env {pair} cannot be used")),
            )
            .next(text("写成 --env 名称=值", "write --env NAME=VALUE")));
        };
        env.insert(key.to_owned(), value.to_owned());
    }
    let cwd = std::env::current_dir().map_err(|error| CliError::file(Path::new("."), &error))?;
    Ok(CommandRequest { argv: submit.command, cwd: cwd.to_string_lossy().into_owned(), env, ..CommandRequest::default() })
}
