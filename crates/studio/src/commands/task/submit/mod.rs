mod fine_tune;
mod fit;
mod group;
mod when;

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use api_types::{CommandRequest, CreatedTask, SubmitTask, TaskView};
use clap::Args;
use client::Client;
use domain::Home;

use self::fine_tune::FineTune;
use super::follow;
use crate::{
    config::{parse_bytes, parse_duration},
    error::{CliError, Result},
    output,
    text::text,
};

#[derive(Args)]
pub struct Submit {
    #[command(flatten)]
    fine_tune: FineTune,
    /// Does it not fit the GPUs, take the nearest configuration that does
    #[arg(long, conflicts_with = "command")]
    fit: bool,
    /// Only say what it needs, whether that fits, and what would
    #[arg(long, conflicts_with_all = ["fit", "hold", "follow", "command"])]
    dry_run: bool,

    /// GPUs that it needs at once
    #[arg(long, value_name = "N")]
    gpus: Option<u32>,
    /// GPU memory that the command needs on each GPU, such as 10GiB; left out, it gets GPUs to itself
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, requires = "command")]
    memory: Option<u64>,
    /// The command may run on a GPU beside other tasks
    #[arg(long, requires = "memory")]
    share: bool,
    /// low, normal, high or urgent; urgent tasks may interrupt others at a checkpoint
    #[arg(long, value_name = "CLASS", value_parser = ["low", "normal", "high", "urgent"], hide_possible_values = true)]
    priority: Option<String>,
    /// Start only after this task has completed; ID,any: after it has ended in any way. Repeat for more
    #[arg(long, value_name = "ID")]
    after: Vec<String>,
    /// Do not start it before: 2h from now, at 22:00, or a date and time
    #[arg(long, value_name = "TIME")]
    start_after: Option<String>,
    /// When it should have ended: 8h from now, at 08:00, or a date and time; the closer, the sooner its turn
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// How often to try again after a failure that was not its own [default: the studio's]
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// A task for each combination of values, such as lr=1e-4,5e-5 rank=8,16; a command has them as {lr}, {rank}
    #[arg(long, value_name = "NAME=VALUES", num_args = 1.., conflicts_with_all = ["follow", "dry_run"])]
    sweep: Vec<String>,
    /// The command once for each number, such as 0-9; it has it as {index}
    #[arg(long, value_name = "FIRST-LAST", requires = "command", conflicts_with_all = ["follow", "sweep"])]
    array: Option<String>,
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
    /// Set a variable for the command; NAME alone takes its value from here; repeat for more
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Any program with its arguments, run here, with the granted GPUs
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub fn run(home: &Home, command: Submit) -> Result<ExitCode> {
    let Submit { follow, json, dry_run, .. } = command;
    let (sweep, array) = (command.sweep.clone(), command.array.clone());
    let task = request(command)?;
    let group = group::group(&task, &sweep, array.as_deref())?;
    let client = Client::connect(home)?;
    if let Some(group) = group {
        let created = client.submit_group(&group)?;
        if json {
            output::json(&created)?
        } else {
            group::announce(&created)?
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let (true, Some(request)) = (dry_run, &task.fine_tune) {
        let answer = client.estimate(request)?;
        if json {
            output::json(&answer)?
        } else {
            output::print(&fit::report(&answer))?
        }
        return Ok(ExitCode::SUCCESS);
    }
    let created = client.create(&task)?;
    if json {
        output::json(&created)?;
        return Ok(ExitCode::SUCCESS);
    }
    let CreatedTask { task, alternatives } = created;
    announce(&task)?;
    if !alternatives.is_empty() {
        eprint!("{}", fit::instead(&task.task_id, &alternatives));
    }
    if follow { follow::follow(home, &client, &task.task_id) } else { Ok(ExitCode::SUCCESS) }
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
    let Submit { name, hold, fit, gpus, .. } = submit;
    let time = |option: &str, word: Option<&str>| word.map(|word| when::when(option, word)).transpose();
    let task = SubmitTask {
        name,
        time_limit_seconds,
        priority: submit.priority,
        after: submit.after,
        start_after: time("--start-after", submit.start_after.as_deref())?,
        deadline: time("--deadline", submit.deadline.as_deref())?,
        retries: submit.retries,
        hold,
        fit,
        ..SubmitTask::default()
    };
    if submit.command.is_empty() {
        if !submit.env.is_empty() {
            return Err(CliError::usage(
                "env-without-command",
                text("--env 只用于命令任务", "--env is only for commands"),
            )
            .next(text("在 -- 之后写命令", "put the command after --")));
        }
        return Ok(SubmitTask { fine_tune: Some(submit.fine_tune.request(gpus)?), ..task });
    }
    if let Some(name) = submit.fine_tune.first_given() {
        return Err(CliError::usage(
            "option-not-for-commands",
            text(
                format!("{name} 只用于微调，不能与 -- 后的命令一起使用"),
                format!("{name} is for fine-tunes, not for a command after --"),
            ),
        )
        .next(text("去掉其中之一", "leave one of the two out")));
    }
    let cwd = std::env::current_dir().map_err(|error| CliError::file(Path::new("."), &error))?;
    let command = CommandRequest {
        argv: submit.command,
        cwd: cwd.to_string_lossy().into_owned(),
        env: variables(&submit.env)?,
        memory_bytes: submit.memory,
        share: submit.share,
        gpus,
    };
    Ok(SubmitTask { command: Some(command), ..task })
}

/// `NAME=VALUE`, or `NAME` for the value it has here, which then is in no list of processes.
fn variables(pairs: &[String]) -> Result<BTreeMap<String, String>> {
    let invalid = |pair: &str| {
        CliError::usage("env-invalid", text(format!("--env {pair} 无效"), format!("--env {pair} cannot be used"))).next(
            text(
                "写成 --env 名称=值，或写已导出变量的名称",
                "write --env NAME=VALUE, or the name of a variable that is exported here",
            ),
        )
    };
    let variable = |pair: &String| {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (pair.as_str(), std::env::var(pair).ok()),
        };
        value.filter(|_| !name.is_empty()).map(|value| (name.to_owned(), value)).ok_or_else(|| invalid(pair))
    };
    pairs.iter().map(variable).collect()
}
