//! The loop itself: its state, and what one pass does with a batch of messages.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use domain::{Attempt, DeviceId, Grant, Inventory, StateKind, Task, TaskId, TaskState, WaitCause, WaitReason};
use jiff::Timestamp;
use store::{Change, TaskRecord, Transition, Writer};

use crate::{
    EngineError, Event, Options, Settings, Submission, Submitted,
    clock::stamped,
    execute::Executor,
    message::{Command, Fact, Message, Outbox, Outcome, Reply, Report},
    turn::{Announcement, Answer, Created, Effect, Turn},
    view::{DeviceStatus, Live, Waits},
};

/// Messages handled, and made durable, in one go.
const BATCH: usize = 512;
/// Waiting tasks hear of a new position at most this often.
const QUEUE_EVENTS_EVERY: Duration = Duration::from_millis(100);
/// A turn that could not be saved is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub struct Machine {
    settings: Settings,
    store: Writer,
    outbox: Outbox,
    executor: Executor,
    inventory: Option<Arc<Inventory>>,
    /// Sorted by creation.
    queue: Vec<TaskId>,
    /// Attempts of which a process may live: each holds its grant, also while it is being stopped.
    running: BTreeMap<TaskId, RunningTask>,
    next_number: u64,
    /// Heard, but to be acted on in a later turn.
    deferred: Vec<Message>,
    retry_at: Option<Instant>,
    /// When the changed queue is to be published.
    publish_queue_at: Option<Instant>,
}

pub struct RunningTask {
    /// Preparing, training, or cancelled while its processes end.
    pub task: Task,
    pub attempt: Attempt,
    pub removed: bool,
}

impl Machine {
    /// Reads what the store believes and picks up the attempts that may still run.
    pub fn load(
        options: &Options,
        store: Writer,
        outbox: Outbox,
        runtime: tokio::runtime::Handle,
    ) -> Result<Machine, EngineError> {
        let mut machine = Machine {
            settings: options.settings.clone(),
            next_number: 0,
            executor: Executor::new(options, outbox.clone(), runtime),
            store,
            outbox,
            inventory: None,
            queue: Vec::new(),
            running: BTreeMap::new(),
            deferred: Vec::new(),
            retry_at: None,
            publish_queue_at: None,
        };
        machine.reload()?;
        for running in machine.running.values() {
            machine.executor.adopt(running);
        }
        Ok(machine)
    }

    /// Makes memory say what the store says.
    fn reload(&mut self) -> Result<(), EngineError> {
        self.next_number = self.store.last_number()? + 1;
        self.queue = self.store.queued()?;
        self.running.clear();
        for live in self.store.live_attempts()? {
            let TaskRecord { task, progress, log, .. } = live.record;
            if self.outbox.view.live(task.id).notes.is_empty() {
                self.outbox.view.set_live(task.id, Live { progress, notes: log, ..Live::default() });
            }
            self.running.insert(task.id, RunningTask { task, attempt: live.attempt, removed: live.removed });
        }
        Ok(())
    }

    pub fn run(mut self, inbox: mpsc::Receiver<Message>) {
        while let Some(batch) = self.next_batch(&inbox) {
            let mut turn = Turn::default();
            let mut goodbyes = Vec::new();
            for message in batch {
                match message {
                    Message::Shutdown { reply } => goodbyes.push(reply),
                    message => self.handle(message, &mut turn),
                }
            }
            let planned = self.plan(&mut turn);
            self.finish(turn, planned);
            if !goodbyes.is_empty() {
                for reply in goodbyes {
                    let _ = reply.send(());
                }
                return;
            }
        }
    }

    /// Blocks until there is something to do; `None` when nobody can send any more.
    fn next_batch(&mut self, inbox: &mpsc::Receiver<Message>) -> Option<Vec<Message>> {
        let now = Instant::now();
        let mut batch = Vec::new();
        if self.retry_at.is_none_or(|at| at <= now) {
            self.retry_at = None;
            batch.append(&mut self.deferred);
        }
        if batch.is_empty() {
            match [self.retry_at, self.publish_queue_at].into_iter().flatten().min() {
                None => batch.push(inbox.recv().ok()?),
                Some(deadline) => match inbox.recv_timeout(deadline.saturating_duration_since(now)) {
                    Ok(message) => batch.push(message),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                },
            }
        }
        batch.extend(inbox.try_iter().take(BATCH));
        Some(batch)
    }

    fn handle(&mut self, message: Message, turn: &mut Turn) {
        match message {
            Message::Submit { submission, who, reply } => self.submit(*submission, who, reply, turn),
            Message::Command { task, .. } if turn.touched.contains(&task) => self.deferred.push(message),
            Message::Command { task, command, who, reply } => {
                let done = match command {
                    Command::Cancel => self.cancel(task, who, turn),
                    Command::Release => self.release(task, who, turn),
                    Command::Delete => self.delete(task, who, turn),
                };
                match done {
                    Ok(()) => turn.answers.push(Answer::Done(reply)),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Message::Inventory(inventory) => {
                self.inventory = Some(inventory);
            }
            Message::Report(report) => self.hear(report, turn),
            Message::Shutdown { .. } => unreachable!("taken out by run"),
        }
    }

    fn submit(&mut self, submission: Submission, who: String, reply: Reply<Submitted>, turn: &mut Turn) {
        let now = Timestamp::now();
        let id = TaskId::new(now.as_second(), self.next_number);
        self.next_number += 1;
        let task = Task {
            id,
            name: submission.name,
            owner: who.clone(),
            created_at: now,
            time_limit: submission.time_limit.unwrap_or(self.settings.default_time_limit),
            recipe: submission.recipe,
            warnings: submission.warnings,
            state: TaskState::Pending,
        };
        if submission.hold {
            let snapshot =
                turn.create(task, who, vec![stamped(now, "任务已保存，等待放行 / held until it is released")]);
            turn.answer_created(reply, snapshot, self.queue.len());
        } else {
            self.queue.push(id);
            turn.touched.insert(id);
            turn.created.push(Created { task, who, reply });
        }
    }

    fn cancel(&mut self, id: TaskId, who: String, turn: &mut Turn) -> Result<(), EngineError> {
        let now = Timestamp::now();
        let cancelled = |started_at| TaskState::Cancelled { by: who.clone(), started_at, ended_at: now };
        let (from, mut task, progress, mut log) = match self.running.get(&id) {
            Some(running) if running.task.state.kind().is_final() => return Err(EngineError::NotRunning(id)),
            Some(running) => {
                let live = self.outbox.view.live(id);
                turn.effects.push(Effect::Stop { task: id, attempt: running.attempt.number, now: false });
                (running.task.state.kind(), running.task.clone(), live.progress.clone(), live.log_tail())
            }
            None => {
                let TaskRecord { task, progress, log, .. } = self.store.task(id)?.ok_or(EngineError::NotFound(id))?;
                if task.state.kind().is_final() {
                    return Err(EngineError::NotRunning(id));
                }
                (task.state.kind(), task, progress, log)
            }
        };
        if let Ok(index) = self.queue.binary_search(&id) {
            self.queue.remove(index);
        }
        task.state = cancelled(task.state.started_at());
        log.push(stamped(now, "任务已取消 / cancelled"));
        if let Some(running) = self.running.get_mut(&id) {
            running.task = task.clone();
        }
        let why = "cancelled on request".to_owned();
        turn.transition(&task, Transition { task: id, from, to: task.state.clone(), at: now, who, why, progress, log });
        Ok(())
    }

    fn release(&mut self, id: TaskId, who: String, turn: &mut Turn) -> Result<(), EngineError> {
        let TaskRecord { mut task, progress, log, .. } = self.store.task(id)?.ok_or(EngineError::NotFound(id))?;
        if task.state != TaskState::Pending {
            return Err(EngineError::NotHeld(id));
        }
        let index = self.queue.binary_search(&id).unwrap_or_else(|index| index);
        self.queue.insert(index, id);
        let reason = WaitReason { position: index as u32 + 1, cause: self.present_cause() };
        task.state = TaskState::Queued { reason };
        let (from, to, at, why) = (StateKind::Pending, task.state.clone(), Timestamp::now(), "released".to_owned());
        turn.transition(&task, Transition { task: id, from, to, at, who, why, progress, log });
        Ok(())
    }

    /// What newcomers to the queue wait for until the plan says it exactly.
    fn present_cause(&self) -> WaitCause {
        let running = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        match self.running.keys().next() {
            Some(oldest) => WaitCause::DevicesBusy { running: *oldest, busy: running },
            None => WaitCause::Detecting,
        }
    }

    fn delete(&mut self, id: TaskId, who: String, turn: &mut Turn) -> Result<(), EngineError> {
        let task = self.store.task(id)?.ok_or(EngineError::NotFound(id))?.task;
        let from = task.state.kind();
        if !from.is_final() && from != StateKind::Pending {
            return Err(EngineError::StillActive(id));
        }
        turn.touched.insert(id);
        turn.changes.push(Change::Remove { task: id, from, who, at: Timestamp::now() });
        turn.announcements.push(Announcement::Removed(id));
        match self.running.get_mut(&id) {
            // Its processes are still ending: hurry, and remove the files when they are gone.
            Some(running) => {
                running.removed = true;
                turn.effects.push(Effect::Stop { task: id, attempt: running.attempt.number, now: true });
            }
            None => turn.effects.push(Effect::RemoveFiles(id)),
        }
        Ok(())
    }

    fn hear(&mut self, report: Report, turn: &mut Turn) {
        let Some(running) = self.running.get_mut(&report.task) else { return };
        if running.attempt.number != report.attempt {
            return;
        }
        turn.reports.push(report.clone());
        let stopping = running.task.state.kind().is_final();
        match report.fact {
            Fact::Launched { pid } => {
                running.attempt.pid = Some(pid);
                if let TaskState::Preparing { attempt } | TaskState::Training { attempt } = &mut running.task.state {
                    attempt.pid = Some(pid);
                }
            }
            Fact::TrainingBegan if running.task.state.kind() == StateKind::Preparing => {
                let to = TaskState::Training { attempt: running.attempt.clone() };
                self.advance(report.task, to, "training began", turn);
            }
            Fact::TrainingBegan => {}
            Fact::Ended(outcome) => {
                let now = Timestamp::now();
                if !stopping {
                    let started_at = running.attempt.started_at;
                    let (to, why) = ended(outcome, started_at, now);
                    self.advance(report.task, to, &why, turn);
                }
                let running = self.running.remove(&report.task).expect("it was there");
                turn.changes.push(Change::EndAttempt { task: report.task, number: report.attempt, at: now });
                turn.effects.push(Effect::ForgetLive(report.task));
                if running.removed {
                    turn.effects.push(Effect::RemoveFiles(report.task));
                }
            }
        }
    }

    /// Moves a running task on by itself.
    fn advance(&mut self, id: TaskId, to: TaskState, why: &str, turn: &mut Turn) {
        let running = self.running.get_mut(&id).expect("only running tasks advance");
        let (at, from) = (Timestamp::now(), running.task.state.kind());
        running.task.state = to.clone();
        let live = self.outbox.view.live(id);
        let (mut progress, mut log) = (live.progress.clone(), live.notes.clone());
        if to.kind().is_final() {
            log = live.log_tail();
            log.push(stamped(at, farewell(&to)));
            if to.kind() == StateKind::Completed {
                progress.percent = 100.0;
            }
            tracing::info!("[FinetuneManager] 任务结束: {id} ({})", to.kind());
        }
        let (who, why, task) = ("studio".to_owned(), why.to_owned(), running.task.clone());
        turn.transition(&task, Transition { task: id, from, to, at, who, why, progress, log });
    }

    /// Lets the planner decide and writes down what it decided.
    fn plan(&mut self, turn: &mut Turn) -> Waits {
        let held: Vec<scheduler::Running> = self
            .running
            .iter()
            .map(|(task, running)| scheduler::Running { task: *task, grant: running.attempt.grant.clone() })
            .collect();
        let queue = scheduler::Queue { waiting: &self.queue, running: &held };
        let plan = scheduler::plan(self.inventory.as_deref(), queue);
        for start in plan.starts {
            if let Err(error) = self.begin(start.task, start.grant, turn) {
                tracing::error!("cannot start {}: {error}", start.task);
            }
        }
        let waits = Waits { long: plan.waits.len() > self.settings.queue_warning as usize, tasks: plan.waits };
        for mut created in std::mem::take(&mut turn.created) {
            let id = created.task.id;
            let reason = waits.reason(id).cloned().unwrap_or(WaitReason { position: 1, cause: WaitCause::Detecting });
            let line = stamped(created.task.created_at, queued_line(&reason));
            created.task.state = TaskState::Queued { reason };
            let snapshot = turn.create(created.task, created.who, vec![line]);
            turn.answer_created(created.reply, snapshot, waits.tasks.len());
        }
        waits
    }

    /// Decides a launch: from here on the attempt exists, whatever happens to the studio.
    fn begin(&mut self, id: TaskId, grant: Grant, turn: &mut Turn) -> Result<(), EngineError> {
        let now = Timestamp::now();
        let attempt = |number| Attempt { number, grant, started_at: now, pid: None };
        let created = turn.created.iter().position(|created| created.task.id == id);
        let (task, attempt, notes) = match created {
            Some(index) => {
                let Created { mut task, who, reply } = turn.created.remove(index);
                let attempt = attempt(1);
                task.state = TaskState::Preparing { attempt: attempt.clone() };
                let notes = vec![stamped(now, starting_line(&attempt))];
                let snapshot = turn.create(task.clone(), who, notes.clone());
                turn.answer_created(reply, snapshot, 0);
                tracing::info!("[FinetuneManager] 启动任务: {id}");
                (task, attempt, notes)
            }
            None => {
                let record = self.store.task(id)?.ok_or(EngineError::NotFound(id))?;
                let (mut task, mut notes) = (record.task, record.log);
                let attempt = attempt(record.attempts + 1);
                // Whatever the database says: it may have been released in this very turn.
                let from = StateKind::Queued;
                task.state = TaskState::Preparing { attempt: attempt.clone() };
                notes.push(stamped(now, starting_line(&attempt)));
                let (to, who, why) = (task.state.clone(), "studio".to_owned(), "its turn".to_owned());
                let (progress, log) = (record.progress, notes.clone());
                turn.transition(&task, Transition { task: id, from, to, at: now, who, why, progress, log });
                tracing::info!("[FinetuneManager] 启动排队任务: {id}");
                (task, attempt, notes)
            }
        };
        self.queue.retain(|queued| *queued != id);
        self.outbox.view.set_live(id, Live { notes, ..Live::default() });
        turn.changes.push(Change::BeginAttempt { task: id, attempt: attempt.clone() });
        turn.effects.push(Effect::Launch(id));
        self.running.insert(id, RunningTask { task, attempt, removed: false });
        Ok(())
    }

    /// Makes the turn durable, then acts on it. If it cannot be saved, nothing of it happened.
    fn finish(&mut self, mut turn: Turn, waits: Waits) {
        if !turn.changes.is_empty() {
            match self.store.commit(&turn.changes) {
                Ok(seqs) => {
                    for (seq, announcement) in seqs.into_iter().zip(std::mem::take(&mut turn.announcements)) {
                        self.outbox.publish(announcement.event(seq));
                    }
                }
                Err(error) => return self.undo(turn, &error.to_string()),
            }
        }
        self.show(waits);
        for effect in std::mem::take(&mut turn.effects) {
            self.executor.execute(effect, &self.running);
        }
        for answer in turn.answers {
            match answer {
                Answer::Done(reply) => drop(reply.send(Ok(()))),
                Answer::Submitted(reply, submitted) => drop(reply.send(Ok(submitted))),
            }
        }
    }

    fn undo(&mut self, mut turn: Turn, why: &str) {
        tracing::error!("could not save, nothing was changed: {why}");
        self.deferred.extend(std::mem::take(&mut turn.reports).into_iter().map(Message::Report));
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        turn.refuse(why);
        if let Err(error) = self.reload() {
            tracing::error!("could not read the store either: {error}");
        }
    }

    /// Updates what readers see of queue and devices.
    fn show(&mut self, waits: Waits) {
        let now = Instant::now();
        if self.outbox.view.set_waits(waits) {
            self.publish_queue_at.get_or_insert(now + QUEUE_EVENTS_EVERY);
        }
        if self.publish_queue_at.is_some_and(|at| at <= now) {
            self.publish_queue_at = None;
            self.outbox.publish(Event::Queue(self.outbox.view.waits()));
        }
        let Some(inventory) = &self.inventory else { return };
        let holders: Vec<(DeviceId, TaskId)> = self
            .running
            .iter()
            .flat_map(|(task, running)| running.attempt.grant.devices.iter().map(|grant| (grant.device.clone(), *task)))
            .collect();
        let status = DeviceStatus { inventory: inventory.clone(), holders };
        if self.outbox.view.devices().is_none_or(|current| *current != status) {
            let status = self.outbox.view.set_devices(status);
            self.outbox.publish(Event::Devices(status));
        }
    }
}

fn ended(outcome: Outcome, started_at: Timestamp, ended_at: Timestamp) -> (TaskState, String) {
    match outcome {
        Outcome::Completed => (TaskState::Completed { started_at, ended_at }, "the training ended well".into()),
        Outcome::Failed(failure) => {
            let why = failure.code().to_owned();
            (TaskState::Failed { failure, started_at: Some(started_at), ended_at }, why)
        }
        Outcome::Stopped => {
            let failure = domain::Failure::Interrupted;
            let why = "its supervisor was told to stop, not by this studio".into();
            (TaskState::Failed { failure, started_at: Some(started_at), ended_at }, why)
        }
    }
}

/// The first generation's words: log scrapers look for them.
fn queued_line(reason: &WaitReason) -> String {
    match reason.running() {
        Some(running) => format!("任务已加入队列，等待 GPU 资源释放（当前运行: {running}）"),
        None => format!("任务已加入队列，{}", reason.sentence(domain::Language::Zh)),
    }
}

fn starting_line(attempt: &Attempt) -> String {
    let devices: Vec<&str> = attempt.grant.devices.iter().map(|grant| grant.device.0.as_str()).collect();
    format!("开始准备 / preparing (attempt {}, {})", attempt.number, devices.join(", "))
}

fn farewell(state: &TaskState) -> String {
    match state {
        TaskState::Completed { .. } => "训练完成 / completed".into(),
        TaskState::Failed { failure, .. } => {
            format!(
                "失败：{} / failed: {}",
                failure.sentence(domain::Language::Zh),
                failure.sentence(domain::Language::En)
            )
        }
        _ => "已结束 / ended".into(),
    }
}
