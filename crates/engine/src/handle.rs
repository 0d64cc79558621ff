use std::{collections::BTreeMap, sync::Arc};

use domain::{Allowance, Dependency, Estimate, Home, Priority, Recipe, TaskId, Terms, Warning};
use scheduler::Verdict;
use store::{Filter, Reader};
use tokio::sync::{broadcast, oneshot};

use crate::{
    EngineError, Event, Options, Settings, TaskSnapshot, View,
    detection::Detection,
    message::{Command, Message, Outbox, Reply, Switch},
};

/// How everybody else talks to the engine. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    outbox: Outbox,
    reader: Arc<Reader>,
    options: Options,
    detection: Detection,
}

/// A task to be: its recipe must have been validated.
#[derive(Debug, Clone)]
pub struct Submission {
    pub name: Option<String>,
    pub recipe: Recipe,
    /// Seconds; `None` takes [`Settings::default_time_limit`].
    pub time_limit: Option<u64>,
    pub priority: Priority,
    /// Tasks that have to end first; they must exist.
    pub after: Vec<Dependency>,
    pub terms: Terms,
    /// Keep it out of the queue until it is released.
    pub hold: bool,
    pub warnings: Vec<Warning>,
    /// `None`: a fine-tune of unknown need gets a device to itself.
    pub estimate: Option<Estimate>,
}

#[derive(Debug, Clone)]
pub struct Submitted {
    pub snapshot: Arc<TaskSnapshot>,
    /// Tasks that wait now, this one included if it does.
    pub waiting: usize,
}

impl Handle {
    pub(crate) fn new(outbox: Outbox, reader: Arc<Reader>, options: Options, detection: Detection) -> Handle {
        Handle { shared: Arc::new(Shared { outbox, reader, options, detection }) }
    }

    /// Durable when it returns. The task then waits or is being launched.
    pub async fn submit(&self, submission: Submission, who: &str) -> Result<Submitted, EngineError> {
        let submission = Box::new(submission);
        self.ask(|reply| Message::Submit { submission, who: who.to_owned(), reply }).await
    }

    /// The task is cancelled when this returns; its processes get [`Settings::grace`] to save and end.
    pub async fn cancel(&self, task: TaskId, who: &str) -> Result<(), EngineError> {
        self.command(task, Command::Cancel, who).await
    }

    /// Submits these as one group, all or none of them; each with what sets it apart.
    pub async fn submit_group(
        &self,
        submissions: Vec<(Submission, String)>,
        who: &str,
    ) -> Result<Vec<TaskId>, EngineError> {
        self.ask(|reply| Message::SubmitGroup { submissions, who: who.to_owned(), reply }).await
    }

    /// Takes a waiting task out of the queue until it is released.
    pub async fn hold(&self, task: TaskId, who: &str) -> Result<(), EngineError> {
        self.command(task, Command::Hold, who).await
    }

    /// Puts a waiting task at the head of its class.
    pub async fn run_next(&self, task: TaskId, who: &str) -> Result<(), EngineError> {
        self.command(task, Command::Next, who).await
    }

    /// Puts a waiting task before another of its class.
    pub async fn move_before(&self, task: TaskId, other: TaskId, who: &str) -> Result<(), EngineError> {
        self.command(task, Command::Before(other), who).await
    }

    /// Moves a waiting or held task to another class.
    pub async fn prioritise(&self, task: TaskId, priority: Priority, who: &str) -> Result<(), EngineError> {
        self.command(task, Command::Prioritise(priority), who).await
    }

    /// Pauses, drains or resumes the queue, or takes a device out of it.
    pub async fn switch(&self, switch: Switch, who: &str) -> Result<(), EngineError> {
        if let Switch::Maintain(device) | Switch::Restore(device) = &switch {
            let known = self.view().devices().is_some_and(|devices| devices.inventory.get(device).is_some());
            if !known && !self.view().control().maintenance.contains_key(device) {
                return Err(EngineError::NoDevice(device.clone()));
            }
        }
        self.ask(|reply| Message::Switch { switch, who: who.to_owned(), reply }).await
    }

    /// Sets what users may have of the machine; who is not named may have all.
    pub fn set_allowances(&self, allowances: BTreeMap<String, Allowance>) {
        self.view().set_allowances(allowances.clone());
        self.shared.outbox.send(Message::Allowances(allowances));
    }

    /// Puts a held task into the queue.
    pub async fn release(&self, task: TaskId, who: &str) -> Result<(), EngineError> {
        self.command(task, Command::Release, who).await
    }

    /// Removes an ended or held task and its files.
    pub async fn delete(&self, task: TaskId, who: &str) -> Result<(), EngineError> {
        self.command(task, Command::Delete, who).await
    }

    pub fn task(&self, id: TaskId) -> Result<Option<TaskSnapshot>, EngineError> {
        Ok(self.shared.reader.task(id)?.map(|stored| self.view().snapshot(stored)))
    }

    pub fn tasks(&self, filter: Filter) -> Result<Vec<TaskSnapshot>, EngineError> {
        let stored = self.shared.reader.tasks(filter)?;
        Ok(stored.into_iter().map(|stored| self.view().snapshot(stored)).collect())
    }

    /// What each device says to a waiting task; empty if it does not wait, or while detection has not answered.
    pub async fn by_device(&self, task: TaskId) -> Result<Vec<Verdict>, EngineError> {
        self.ask(|reply| Message::ByDevice { task, reply }).await
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.outbox.events.subscribe()
    }

    pub fn view(&self) -> &View {
        &self.shared.outbox.view
    }

    pub fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    pub fn home(&self) -> &Home {
        &self.shared.options.home
    }

    pub fn settings(&self) -> &Settings {
        &self.shared.options.settings
    }

    /// Takes new readings soon instead of at the next interval.
    pub fn refresh_devices(&self) {
        self.shared.detection.refresh();
    }

    /// Looks for what keeps GPUs from being used; blocks for a few seconds.
    pub fn doctor(&self) -> Vec<gpu::Check> {
        let Options { sage, gpu, .. } = &self.shared.options;
        let program = |word: &str| [sage.clone().into_os_string(), word.into()];
        gpu::doctor(gpu, &program("gpu-worker"), &program("gpu-trial"))
    }

    /// Ends the loop after what it was told so far. Trainings go on.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        self.shared.outbox.send(Message::Shutdown { reply });
        let _ = done.await;
    }

    async fn command(&self, task: TaskId, command: Command, who: &str) -> Result<(), EngineError> {
        self.ask(|reply| Message::Command { task, command, who: who.to_owned(), reply }).await
    }

    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.shared.outbox.send(message(reply));
        answer.await.unwrap_or(Err(EngineError::ShuttingDown))
    }
}
