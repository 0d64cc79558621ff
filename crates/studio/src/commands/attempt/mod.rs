//! What the attempts of all trainers of ours do: read the recipe, fetch the model, report and stop.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::{Duration, Instant},
};

use clap::Args;
use domain::{FineTune, Home, Recipe};
use recipes::{
    hub::{self, HubOptions},
    models::{self, HubCache, ModelRef},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    error::{CliError, Result},
    output,
    text::text,
};

mod fault;

pub use fault::{Fault, code, file};

/// Where an attempt finds its recipe and leaves its results.
#[derive(Args)]
pub struct Places {
    /// recipe.json, as the studio writes it
    #[arg(long, value_name = "FILE")]
    pub recipe: PathBuf,
    /// Receives the adapter, checkpoints/ and metrics.jsonl
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
}

/// As if SIGTERM had ended it.
pub const STOPPED: u8 = 143;

pub enum Outcome {
    Completed,
    Stopped,
}

pub struct Attempt<'a> {
    pub home: &'a Home,
    /// Absolute.
    pub recipe: PathBuf,
    /// Absolute.
    pub output: PathBuf,
    /// Turns true on SIGTERM and SIGINT.
    pub stop: Arc<AtomicBool>,
    metrics: File,
}

impl<'a> Attempt<'a> {
    pub fn open(home: &'a Home, places: &Places) -> Result<Attempt<'a>> {
        let path = |path: &Path| std::path::absolute(path).map_err(|error| CliError::file(path, &error));
        let (recipe, output) = (path(&places.recipe)?, path(&places.output)?);
        fs::create_dir_all(&output).map_err(|error| CliError::file(&output, &error))?;
        let metrics = output.join("metrics.jsonl");
        let file = OpenOptions::new().append(true).create(true).open(&metrics);
        let metrics = file.map_err(|error| CliError::file(&metrics, &error))?;
        Ok(Attempt { home, recipe, output, stop: stop_flag()?, metrics })
    }

    /// How the program ends; a failure is reported first.
    pub fn end(&mut self, outcome: Result<Outcome, Fault>) -> Result<ExitCode> {
        match outcome {
            Ok(Outcome::Completed) => Ok(ExitCode::SUCCESS),
            Ok(Outcome::Stopped) => Ok(ExitCode::from(STOPPED)),
            Err(fault) => {
                self.report(&fault.event());
                Err(fault.into())
            }
        }
    }

    pub fn read_recipe(&self) -> Result<FineTune, Fault> {
        let path = self.recipe.as_path();
        let content = fs::read_to_string(path).map_err(file(path))?;
        let invalid = |reason| Fault::Recipe { path: path.into(), reason };
        let recipe: Recipe =
            serde_json::from_str(&content).map_err(|error| invalid([error.to_string(), error.to_string()]))?;
        recipes::validate(&recipe).map_err(|field| invalid([field.message_zh, field.message]))?;
        let Recipe::FineTune(recipe) = recipe else {
            return Err(invalid(["它是一个命令，不是微调".into(), "it is a command, not a fine-tune".into()]));
        };
        Ok(recipe)
    }

    /// The model's folder; fetched first if it is not on this machine. `None` if it was stopped meanwhile.
    pub fn model(&mut self, name: &str) -> Result<Option<PathBuf>, Fault> {
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
    pub fn report(&mut self, event: &impl Serialize) {
        let mut line = serde_json::to_vec(event).expect("events are plain data");
        line.push(b'\n');
        if let Err(error) = self.metrics.write_all(&line) {
            eprintln!("metrics.jsonl: {error}");
        }
    }
}

/// At most once in a while, and the first time.
pub struct Paced {
    pause: Duration,
    last: Option<Instant>,
}

impl Paced {
    pub fn new(pause: Duration) -> Paced {
        Paced { pause, last: None }
    }

    pub fn due(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= self.pause);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}

/// `[HH:MM:SS] text`, the form of every line in a task's log.
pub fn say(line: impl std::fmt::Display) {
    let now = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::system());
    let _ = writeln!(std::io::stdout(), "{} {line}", now.strftime("[%H:%M:%S]"));
}

/// Turns true on SIGTERM and SIGINT.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
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
