//! `sage peft`: an attempt of trainer peft. Sees to environment, data and model, then becomes the Python program.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
    sync::atomic::Ordering,
    time::Duration,
};

use domain::{FineTune, Home};
use recipes::peft::{self, Environment, ExamplesError, InstallProgress, PeftError, PeftOptions, Phase};
use serde_json::json;

use super::attempt::{Attempt, Fault, Outcome, Paced, Places, file, say};
use crate::{
    error::Result,
    output,
    text::{text, word},
};

/// The data set as the Python program reads it, in the attempt's folder.
const EXAMPLES: &str = "examples.jsonl";

pub fn run(home: &Home, places: Places) -> Result<ExitCode> {
    let mut attempt = Attempt::open(home, &places)?;
    let outcome = prepare(&mut attempt).and_then(|command| match command {
        // Ended by the same signals from here on, and seen by the supervisor as the same process.
        Some(mut command) => Err(Fault::File { path: command.get_program().into(), error: command.exec() }),
        None => Ok(Outcome::Stopped),
    });
    attempt.end(outcome)
}

/// The program to become; `None` if it was stopped meanwhile.
fn prepare(attempt: &mut Attempt<'_>) -> Result<Option<Command>, Fault> {
    let recipe = attempt.read_recipe()?;
    let examples = write_examples(&recipe, &attempt.output.join(EXAMPLES))?;
    let environment = match environment(attempt) {
        Ok(environment) => environment,
        Err(PeftError::Stopped) => return Ok(None),
        Err(error) => return Err(Fault::Peft(error)),
    };
    let Some(model) = attempt.model(&recipe.model_name)? else { return Ok(None) };
    say(text(
        format!("模型 {}，{examples} 条样本", model.display()),
        format!("model {}, {examples} examples", model.display()),
    ));
    if attempt.stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let mut command = Command::new(environment.python());
    // Nothing but the environment's own packages and ours: not the user's, not what lies in the folder.
    command.args(["-s", "-P", "-m", "sage_peft"]);
    command.env("PYTHONPATH", environment.sources().map_err(Fault::Peft)?).env_remove("PYTHONHOME");
    command.env("SAGE_LANG", word()).current_dir(&attempt.output);
    let arguments = [
        ("--recipe", attempt.recipe.as_path()),
        ("--model", &model),
        ("--data", &attempt.output.join(EXAMPLES)),
        ("--output", &attempt.output),
    ];
    for (name, path) in arguments {
        command.arg(name).arg(path);
    }
    Ok(Some(command))
}

fn write_examples(recipe: &FineTune, to: &Path) -> Result<usize, Fault> {
    let from = Path::new(&recipe.dataset_file);
    peft::write_examples(from, recipe.objective, to).map_err(|error| match error {
        ExamplesError::Data(error) => Fault::Data { path: from.into(), error },
        ExamplesError::Write { path, source } => file(&path)(source),
    })
}

/// Installed first if it is missing, which is reported like the fetch of a model.
fn environment(attempt: &mut Attempt<'_>) -> Result<Environment, PeftError> {
    let options = PeftOptions::from_env(attempt.home);
    let (stop, mut teller) = (attempt.stop.clone(), Teller::new());
    peft::ensure(
        &options,
        &mut |progress| {
            attempt.report(&match &progress {
                InstallProgress::Waiting => json!({ "event": "install", "phase": "waiting" }),
                InstallProgress::Phase(phase) => json!({ "event": "install", "phase": phase.as_str() }),
                InstallProgress::Packages { bytes, total_bytes } => {
                    json!({ "event": "install", "phase": "packages", "bytes": bytes, "total_bytes": total_bytes })
                }
                InstallProgress::LockedTorch => json!({ "event": "install", "phase": "packages" }),
            });
            teller.tell(&progress);
        },
        &stop,
    )
}

/// Says how an installation goes, for people.
pub struct Teller {
    sizes: Paced,
}

impl Teller {
    pub fn new() -> Teller {
        Teller { sizes: Paced::new(Duration::from_secs(2)) }
    }

    pub fn tell(&mut self, progress: &InstallProgress) {
        match progress {
            InstallProgress::Waiting => say(text(
                "另一个任务正在安装 peft 训练器的环境，等待其完成",
                "another task is installing the environment of trainer peft; waiting for it",
            )),
            InstallProgress::Phase(phase) => say(match phase {
                Phase::Uv => {
                    text("安装 peft 训练器的环境：下载 uv", "installing the environment of trainer peft: fetching uv")
                }
                Phase::Python => {
                    text("安装 peft 训练器的环境：准备 Python", "installing the environment of trainer peft: Python")
                }
                Phase::Packages => text(
                    "安装 peft 训练器的环境：下载软件包（约 3 GB，安装后 6 GB）",
                    "installing the environment of trainer peft: packages (3 GB to fetch, 6 GB on disk)",
                ),
                Phase::Check => {
                    text("安装 peft 训练器的环境：检查", "installing the environment of trainer peft: checking")
                }
            }),
            InstallProgress::Packages { bytes, total_bytes } => {
                if self.sizes.due() || bytes == total_bytes {
                    let (size, total) = (output::bytes(*bytes), output::bytes(*total_bytes));
                    say(text(format!("已下载 {size}，共 {total}"), format!("fetched {size} of {total}")));
                }
            }
            InstallProgress::LockedTorch => say(text(
                "没有为本机选到更合适的 PyTorch，改用软件包索引中的 CUDA 版",
                "no PyTorch that fits this machine better could be had; taking the index's, for CUDA",
            )),
        }
    }
}
