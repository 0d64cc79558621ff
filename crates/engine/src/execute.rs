//! Acts on what was committed: launches, stops, removes. Everything here may be done twice without harm.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use domain::{Attempt, DeviceGrant, Failure, Home, Reading, Recipe, StateKind, Task, TaskId, WaitCause};
use gpu::TrialError;
use runner::{LaunchSpec, Launched, Launcher};
use store::Reader;

use crate::{
    Options, Settings,
    machine::RunningTask,
    message::{Fact, Message, Outbox, Outcome, Report},
    turn::Effect,
    watch::{self, Offsets, Watched},
};

/// A driver that takes longer than this over an allocation is not one to train on.
const TRIAL_DEADLINE: Duration = Duration::from_secs(30);
/// What is tried for a task that gets a whole device: enough to see that the device works.
const TRIAL_OF_WHOLE: u64 = 256 << 20;

/// Cheap to clone: each launch takes one along to a thread of its own.
#[derive(Clone)]
pub struct Executor {
    home: Home,
    sage: Arc<Path>,
    settings: Settings,
    launcher: Arc<Launcher>,
    trial: Arc<[OsString]>,
    reader: Arc<Reader>,
    outbox: Outbox,
    runtime: tokio::runtime::Handle,
}

impl Executor {
    pub fn new(options: &Options, reader: Arc<Reader>, outbox: Outbox, runtime: tokio::runtime::Handle) -> Executor {
        let supervise = vec![options.sage.clone().into_os_string(), "supervise".into()];
        let executor = Executor {
            home: options.home.clone(),
            sage: options.sage.as_path().into(),
            settings: options.settings.clone(),
            launcher: Arc::new(Launcher::new(supervise)),
            trial: [options.sage.clone().into_os_string(), "gpu-trial".into()].into(),
            reader,
            outbox,
            runtime,
        };
        let ahead = executor.clone();
        executor.runtime.spawn_blocking(move || ahead.make_next_folder());
        executor
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
        let RunningTask { task, attempt, removed, .. } = running;
        let pausing = running.is_pausing() || task.terms.broken.is_some();
        let stopping = task.state.kind() == StateKind::Cancelled || pausing;
        match runner::observe(&self.home.attempt(task.id, attempt.number)) {
            Ok(runner::Observed::NotStarted) if stopping => {
                self.report(task.id, attempt.number, Fact::Ended(Outcome::Stopped));
            }
            Ok(runner::Observed::NotStarted) => self.launch(task, attempt),
            _ => {
                tracing::info!("[FinetuneManager] 重新接管任务: {}", task.id);
                self.watch(task, attempt, None, Offsets::of_adopted(&self.home, task.id, attempt.number));
                if stopping {
                    self.stop(task.id, attempt.number, *removed || task.terms.broken.is_some());
                }
            }
        }
    }

    /// On a thread of its own: the supervisor that takes the attempt may have to be spawned first, and the loop does
    /// not wait for that.
    fn launch(&self, task: &Task, attempt: &Attempt) {
        let (executor, task, attempt) = (self.clone(), task.clone(), attempt.clone());
        self.runtime.spawn_blocking(move || {
            if let Some(refused) = executor.try_memory(task.id, &attempt) {
                return executor.report(task.id, attempt.number, refused);
            }
            if let Err(message) = executor.try_launch(&task, &attempt) {
                tracing::error!("could not launch {}: {message}", task.id);
                // Whether a supervisor had taken it is unknown.
                executor.runtime.block_on(watch::make_sure_it_is_over(&executor.home.attempt(task.id, attempt.number)));
                let outcome = Outcome::Failed(Failure::LaunchFailed { message });
                executor.report(task.id, attempt.number, Fact::Ended(outcome));
            }
        });
    }

    /// Allocates what was granted and gives it back at once: what a reading cannot promise. The reason if it failed.
    fn try_memory(&self, task: TaskId, attempt: &Attempt) -> Option<Fact> {
        attempt.grant.devices.iter().find_map(|granted| {
            let bytes = granted.bytes.unwrap_or(TRIAL_OF_WHOLE);
            let devices = self.outbox.view.devices();
            let reading = devices.as_ref().and_then(|devices| devices.inventory.get(&granted.device));
            let free = reading.and_then(|reading| reading.memory).map(|memory| memory.free);
            let trial = gpu::Trial {
                command: &self.trial,
                device: &granted.device,
                bytes,
                free_before: free,
                task: Some((task, self.home.root())),
                deadline: TRIAL_DEADLINE,
            };
            let error = gpu::trial(&trial).err()?;
            tracing::warn!("trial allocation on {}: {error}", granted.device);
            let cause = explain_trial(granted, reading, bytes, &error);
            Some(Fact::Refused { device: granted.device.clone(), cause })
        })
    }

    fn try_launch(&self, task: &Task, attempt: &Attempt) -> Result<(), String> {
        let attempt_dir = self.home.attempt(task.id, attempt.number);
        let readable = |error: io::Error| format!("{}: {error}", attempt_dir.display());
        // Fails where there is none, or the task has a folder already.
        let _ = fs::rename(self.next_folder(), self.home.task(task.id));
        fs::create_dir_all(&attempt_dir).map_err(readable)?;
        if let Recipe::FineTune(_) = task.recipe {
            fs::write(self.home.recipe(task.id), recipes::launch::recipe_json(task)).map_err(readable)?;
        }
        let from = Offsets::of_next(&self.home, task.id, attempt.number);
        let command = recipes::launch::command(task, &attempt.grant, &self.home, &self.sage);
        let spec = LaunchSpec {
            attempt_dir,
            argv: command.argv,
            cwd: command.cwd,
            env: command.env,
            log: self.home.training_log(task.id),
            log_cap: self.settings.log_cap,
            grace: self.settings.grace,
            time_limit: Some(Duration::from_secs(task.time_left())),
            limits: self.settings.limits,
        };
        let launched = self.launcher.launch(&spec).map_err(|error| error.to_string())?;
        self.watch(task, attempt, Some(launched), from);
        self.make_next_folder();
        Ok(())
    }

    /// The next task's folder, made before there is one: on a journalling file system new folders and files take longer than
    /// all else of a launch.
    fn next_folder(&self) -> PathBuf {
        self.home.root().join("next-task")
    }

    fn make_next_folder(&self) {
        // A launch without it makes its own.
        let folder = self.next_folder();
        let _ = runner::prepare(&folder.join("attempts/1"));
        let _ = fs::File::options().append(true).create(true).open(folder.join(Home::LOG));
    }

    fn watch(&self, task: &Task, attempt: &Attempt, launched: Option<Launched>, from: Offsets) {
        let program = match &task.recipe {
            Recipe::FineTune(_) => self.sage.display().to_string(),
            Recipe::Command(command) => command.argv[0].clone(),
        };
        let grant = attempt.grant.clone();
        let watched = Watched { task: task.clone(), attempt: attempt.number, grant, program, launched, from };
        self.runtime.spawn(watch::watch(watched, self.home.clone(), self.reader.clone(), self.outbox.clone()));
    }

    fn stop(&self, id: TaskId, attempt: u32, now: bool) {
        let folder = self.home.attempt(id, attempt);
        let stopped = if now { runner::kill_now(&folder) } else { runner::stop(&folder) };
        if let Err(error) = stopped {
            tracing::warn!("could not signal {id}: {error}");
        }
    }

    fn report(&self, task: TaskId, attempt: u32, fact: Fact) {
        self.outbox.send(Message::Report(Box::new(Report { task, attempt, fact })));
    }
}

fn explain_trial(granted: &DeviceGrant, reading: Option<&Reading>, needed: u64, error: &TrialError) -> WaitCause {
    let device = reading.map_or(granted.device.0.clone(), |reading| format!("GPU {}", reading.device.index));
    let free = match error {
        TrialError::NotEnough { free, .. } => Some(*free),
        _ => None,
    };
    WaitCause::TrialFailed { device, needed, free, holder: None, message: error.to_string() }
}
