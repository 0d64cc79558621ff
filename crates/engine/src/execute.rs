//! Acts on what was committed: launches, stops, removes. Everything here may be done twice without harm.

use std::{collections::BTreeMap, fs, io, path::PathBuf, time::Duration};

use domain::{Failure, Home, Recipe, StateKind, TaskId};
use runner::{LaunchSpec, Launcher};

use crate::{
    Options, Settings,
    machine::RunningTask,
    message::{Fact, Message, Outbox, Outcome, Report},
    turn::Effect,
    watch::{self, Watched},
};

pub struct Executor {
    home: Home,
    sage: PathBuf,
    settings: Settings,
    launcher: Launcher,
    outbox: Outbox,
    runtime: tokio::runtime::Handle,
}

impl Executor {
    pub fn new(options: &Options, outbox: Outbox, runtime: tokio::runtime::Handle) -> Executor {
        let supervise = vec![options.sage.clone().into_os_string(), "supervise".into()];
        Executor {
            home: options.home.clone(),
            sage: options.sage.clone(),
            settings: options.settings.clone(),
            launcher: Launcher::new(supervise),
            outbox,
            runtime,
        }
    }

    pub fn execute(&self, effect: Effect, running: &BTreeMap<TaskId, RunningTask>) {
        match effect {
            Effect::Launch(id) => {
                if let Some(running) = running.get(&id) {
                    self.watch(running, false);
                    self.launch(running);
                }
            }
            Effect::Stop { task, attempt, now } => self.stop(task, attempt, now),
            Effect::ForgetLive(id) => self.outbox.view.forget_live(id),
            Effect::RemoveFiles(id) => {
                let folder = self.home.task(id);
                self.runtime.spawn_blocking(move || match fs::remove_dir_all(&folder) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!("could not remove {}: {error}", folder.display());
                    }
                    _ => {}
                });
            }
        }
    }

    /// After a restart: an attempt that was decided on is launched unless it was already, and watched in any case.
    pub fn adopt(&self, running: &RunningTask) {
        let (id, number) = (running.task.id, running.attempt.number);
        let stopping = running.task.state.kind() == StateKind::Cancelled;
        match runner::observe(&self.home.attempt(id, number)) {
            Ok(runner::Observed::NotStarted) if stopping => self.report(running, Fact::Ended(Outcome::Stopped)),
            Ok(runner::Observed::NotStarted) => {
                self.watch(running, false);
                self.launch(running);
            }
            _ => {
                tracing::info!("[FinetuneManager] 重新接管任务: {id}");
                self.watch(running, true);
                if stopping {
                    self.stop(id, number, running.removed);
                }
            }
        }
    }

    fn launch(&self, running: &RunningTask) {
        if let Err(message) = self.try_launch(running) {
            tracing::error!("could not launch {}: {message}", running.task.id);
            // Whether a supervisor had taken it is unknown; this makes sure that it never starts.
            self.stop(running.task.id, running.attempt.number, true);
            self.report(running, Fact::Ended(Outcome::Failed(Failure::LaunchFailed { message })));
        }
    }

    fn try_launch(&self, running: &RunningTask) -> Result<(), String> {
        let task = &running.task;
        let attempt_dir = self.home.attempt(task.id, running.attempt.number);
        let readable = |error: io::Error| format!("{}: {error}", attempt_dir.display());
        fs::create_dir_all(&attempt_dir).map_err(readable)?;
        if let Recipe::FineTune(_) = task.recipe {
            fs::write(self.home.recipe(task.id), recipes::launch::recipe_json(task)).map_err(readable)?;
        }
        let command = recipes::launch::command(task, &running.attempt.grant, &self.home, &self.sage);
        let spec = LaunchSpec {
            attempt_dir,
            argv: command.argv,
            cwd: command.cwd,
            env: command.env,
            log: self.home.training_log(task.id),
            log_cap: self.settings.log_cap,
            grace: self.settings.grace,
            time_limit: Some(Duration::from_secs(task.time_limit)),
        };
        self.launcher.launch(&spec).map_err(|error| error.to_string())
    }

    fn watch(&self, running: &RunningTask, adopted: bool) {
        let (fine_tune, program) = match &running.task.recipe {
            Recipe::FineTune(_) => (true, self.sage.display().to_string()),
            Recipe::Command(command) => (false, command.argv[0].clone()),
        };
        let watched = Watched {
            task: running.task.id,
            attempt: running.attempt.number,
            fine_tune,
            program,
            time_limit: running.task.time_limit,
            adopted,
        };
        self.runtime.spawn(watch::watch(watched, self.home.clone(), self.outbox.clone()));
    }

    fn stop(&self, id: TaskId, attempt: u32, now: bool) {
        let folder = self.home.attempt(id, attempt);
        let stopped = if now { runner::kill_now(&folder) } else { runner::stop(&folder) };
        if let Err(error) = stopped {
            tracing::warn!("could not signal {id}: {error}");
        }
    }

    fn report(&self, running: &RunningTask, fact: Fact) {
        let report = Report { task: running.task.id, attempt: running.attempt.number, fact };
        self.outbox.send(Message::Report(report));
    }
}
