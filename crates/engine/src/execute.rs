//! Acts on what was committed: launches, stops, removes. Everything here may be done twice without harm.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc, time::Duration};

use domain::{Attempt, Failure, Home, Recipe, StateKind, Task, TaskId};
use runner::{LaunchSpec, Launcher};

use crate::{
    Options, Settings,
    machine::RunningTask,
    message::{Fact, Message, Outbox, Outcome, Report},
    turn::Effect,
    watch::{self, Watched},
};

/// Cheap to clone: each launch takes one along to a thread of its own.
#[derive(Clone)]
pub struct Executor {
    home: Home,
    sage: Arc<Path>,
    settings: Settings,
    launcher: Arc<Launcher>,
    outbox: Outbox,
    runtime: tokio::runtime::Handle,
}

impl Executor {
    pub fn new(options: &Options, outbox: Outbox, runtime: tokio::runtime::Handle) -> Executor {
        let supervise = vec![options.sage.clone().into_os_string(), "supervise".into()];
        Executor {
            home: options.home.clone(),
            sage: options.sage.as_path().into(),
            settings: options.settings.clone(),
            launcher: Arc::new(Launcher::new(supervise)),
            outbox,
            runtime,
        }
    }

    pub fn execute(&self, effect: Effect, running: &BTreeMap<TaskId, RunningTask>) {
        match effect {
            Effect::Launch(id) => {
                if let Some(running) = running.get(&id) {
                    self.launch(&running.task, &running.attempt);
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
        let RunningTask { task, attempt, removed } = running;
        let stopping = task.state.kind() == StateKind::Cancelled;
        match runner::observe(&self.home.attempt(task.id, attempt.number)) {
            Ok(runner::Observed::NotStarted) if stopping => {
                self.report(task.id, attempt.number, Fact::Ended(Outcome::Stopped));
            }
            Ok(runner::Observed::NotStarted) => self.launch(task, attempt),
            _ => {
                tracing::info!("[FinetuneManager] 重新接管任务: {}", task.id);
                self.watch(task, attempt, true);
                if stopping {
                    self.stop(task.id, attempt.number, *removed);
                }
            }
        }
    }

    /// On a thread of its own: the supervisor that takes the attempt may have to be spawned first, and the loop does
    /// not wait for that.
    fn launch(&self, task: &Task, attempt: &Attempt) {
        let (executor, task, attempt) = (self.clone(), task.clone(), attempt.clone());
        self.runtime.spawn_blocking(move || {
            if let Err(message) = executor.try_launch(&task, &attempt) {
                tracing::error!("could not launch {}: {message}", task.id);
                // Whether a supervisor had taken it is unknown; this makes sure that it never starts.
                executor.stop(task.id, attempt.number, true);
                let outcome = Outcome::Failed(Failure::LaunchFailed { message });
                executor.report(task.id, attempt.number, Fact::Ended(outcome));
            }
        });
    }

    fn try_launch(&self, task: &Task, attempt: &Attempt) -> Result<(), String> {
        let attempt_dir = self.home.attempt(task.id, attempt.number);
        let readable = |error: io::Error| format!("{}: {error}", attempt_dir.display());
        fs::create_dir_all(&attempt_dir).map_err(readable)?;
        if let Recipe::FineTune(_) = task.recipe {
            fs::write(self.home.recipe(task.id), recipes::launch::recipe_json(task)).map_err(readable)?;
        }
        self.watch(task, attempt, false);
        let command = recipes::launch::command(task, &attempt.grant, &self.home, &self.sage);
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

    fn watch(&self, task: &Task, attempt: &Attempt, adopted: bool) {
        let (fine_tune, program) = match &task.recipe {
            Recipe::FineTune(_) => (true, self.sage.display().to_string()),
            Recipe::Command(command) => (false, command.argv[0].clone()),
        };
        let watched = Watched {
            task: task.id,
            attempt: attempt.number,
            fine_tune,
            program,
            time_limit: task.time_limit,
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

    fn report(&self, task: TaskId, attempt: u32, fact: Fact) {
        self.outbox.send(Message::Report(Report { task, attempt, fact }));
    }
}
