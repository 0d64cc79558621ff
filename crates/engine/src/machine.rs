//! The loop itself: its state, and what one pass does with a batch of messages.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use domain::{
    Attempt, Dependency, Failure, Grant, Inventory, StateKind, Task, TaskId, TaskState, WaitCause, WaitReason,
};
use jiff::{SignedDuration, Timestamp, Unit};
use scheduler::{PreemptReason, Quota, Verdict, Waiting};
use store::{Change, Reader, TaskRecord, Ticket, Transition, Writer};

use crate::{
    EngineError, Event, Options, Settings,
    clock::stamped,
    detection::Detection,
    devices,
    execute::Executor,
    message::{Message, Outbox},
    refusals::Refusals,
    turn::{Answer, Created, Effect, Turn},
    usage::Usage,
    view::{DeviceStatus, Live, Waits},
};

mod commands;
mod dependencies;
mod reports;

/// Messages handled, and made durable, in one go.
const BATCH: usize = 512;
/// For so many tasks it is worked out when they will start.
const FORECAST_TASKS: usize = 200;
/// Waiting tasks hear of a new position at most this often.
const QUEUE_EVENTS_EVERY: Duration = Duration::from_millis(100);
/// A turn that could not be saved is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub struct Machine {
    settings: Settings,
    store: Writer,
    outbox: Outbox,
    executor: Executor,
    detection: Detection,
    inventory: Option<Arc<Inventory>>,
    /// Sorted by creation.
    queue: Vec<Waiting>,
    /// Of the tasks in the queue that wait for others to end.
    dependencies: BTreeMap<TaskId, Vec<Dependency>>,
    refusals: Refusals,
    usage: Usage,
    quotas: BTreeMap<String, Quota>,
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
    /// It is being stopped for this, which then is how it failed.
    pub broken: Option<Failure>,
    /// It is being stopped at a checkpoint for this, to go on later.
    pub preempted: Option<PreemptReason>,
    /// Programs (by pid) about whose memory it was warned already.
    pub blamed: Vec<Option<u32>>,
}

impl RunningTask {
    fn new(task: Task, attempt: Attempt, removed: bool) -> RunningTask {
        RunningTask { task, attempt, removed, broken: None, preempted: None, blamed: Vec::new() }
    }
}

impl Machine {
    /// Reads what the store believes and picks up the attempts that may still run.
    pub fn load(
        options: &Options,
        store: Writer,
        reader: Arc<Reader>,
        outbox: Outbox,
        detection: Detection,
        runtime: tokio::runtime::Handle,
    ) -> Result<Machine, EngineError> {
        let mut machine = Machine {
            settings: options.settings.clone(),
            next_number: 0,
            executor: Executor::new(options, reader, outbox.clone(), runtime),
            store,
            outbox,
            detection,
            inventory: None,
            queue: Vec::new(),
            dependencies: BTreeMap::new(),
            refusals: Refusals::default(),
            usage: Usage::default(),
            quotas: BTreeMap::new(),
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
        self.queue.clear();
        self.dependencies.clear();
        for ticket in self.store.queued()? {
            self.join_queue(ticket);
        }
        self.running.clear();
        for live in self.store.live_attempts()? {
            let TaskRecord { task, progress, log, .. } = live.record;
            if self.outbox.view.live(task.id).notes.is_empty() {
                self.outbox.view.set_live(task.id, Live { progress, notes: log, ..Live::default() });
            }
            self.running.insert(task.id, RunningTask::new(task, live.attempt, live.removed));
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
            match [self.retry_at, self.publish_queue_at, self.refusals.next()].into_iter().flatten().min() {
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
            Message::Command { task, command, who, reply } => match self.command(task, command, who, turn) {
                Ok(()) => turn.answers.push(Answer::Done(reply)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Message::ByDevice { task, reply } => drop(reply.send(Ok(self.by_device(task)))),
            Message::Inventory(inventory) => {
                self.inventory = Some(inventory);
                self.look_after_devices(turn);
            }
            Message::Report(report) => self.hear(*report, turn),
            Message::Shutdown { .. } => unreachable!("taken out by run"),
        }
    }

    /// Lets the planner decide and writes down what it decided.
    fn plan(&mut self, turn: &mut Turn) -> Waits {
        let refused_before: Vec<TaskId> = self.refusals.tasks().collect();
        self.refusals.update(self.inventory.as_deref(), Instant::now());
        for task in refused_before {
            if let Ok(index) = self.position(task) {
                self.queue[index].refused = self.refusals.of(task);
            }
        }
        self.look_at_dependencies(turn);
        let now = Timestamp::now();
        let held = devices::holders(self.inventory.as_deref(), &self.running, &self.outbox.view, now);
        let usage = self.usage.at(now);
        let queue = scheduler::Queue {
            waiting: &self.queue,
            running: &held,
            usage: &usage,
            closed: None,
            quotas: &self.quotas,
        };
        let plan = scheduler::plan(&self.settings.policy, self.inventory.as_deref(), queue, now);
        let devices = self
            .inventory
            .as_ref()
            .map_or(0, |inventory| inventory.devices.iter().filter(|reading| reading.is_usable()).count());
        let minute = now.round(Unit::Minute).unwrap_or(now);
        let forecast =
            scheduler::forecast(&self.settings.policy, &plan, &self.queue, &held, devices, minute, FORECAST_TASKS);
        for preempt in &plan.preempts {
            self.preempt(preempt, turn);
        }
        for start in plan.starts {
            if let Err(error) = self.begin(start.task, start.grant, turn) {
                tracing::error!("cannot start {}: {error}", start.task);
            }
        }
        // Whoever waits for memory is to have it as soon as it is free.
        self.detection.hurry(plan.waits.iter().any(|(_, reason)| is_for_memory(&reason.cause)));
        let long = plan.waits.len() > self.settings.queue_warning as usize;
        let waits = Waits::new(plan.waits, forecast, long);
        for mut created in std::mem::take(&mut turn.created) {
            let id = created.task.id;
            let reason =
                waits.reason(id).cloned().unwrap_or(WaitReason { position: 1, cause: WaitCause::Detecting.into() });
            let line = stamped(created.task.created_at, queued_line(&reason));
            created.task.state = TaskState::Queued { reason };
            let snapshot = turn.create(created.task, created.who, vec![line]);
            turn.answer_created(created.reply, snapshot, waits.tasks.len());
        }
        waits
    }

    /// What each device says to a waiting task; empty if it does not wait, or while detection has not answered.
    fn by_device(&self, task: TaskId) -> Vec<Verdict> {
        let (Some(inventory), Ok(_)) = (&self.inventory, self.position(task)) else { return Vec::new() };
        let now = Timestamp::now();
        let held = devices::holders(Some(inventory), &self.running, &self.outbox.view, now);
        let usage = self.usage.at(now);
        let queue = scheduler::Queue {
            waiting: &self.queue,
            running: &held,
            usage: &usage,
            closed: None,
            quotas: &self.quotas,
        };
        scheduler::by_device(&self.settings.policy, inventory, queue, task, now)
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
                let record = match turn.requeued.remove(&id) {
                    Some(record) => record,
                    None => self.store.task(id)?.ok_or(EngineError::NotFound(id))?,
                };
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
        self.leave_queue(id);
        self.outbox.view.set_live(id, Live { notes, ..Live::default() });
        turn.changes.push(Change::BeginAttempt { task: id, attempt: attempt.clone() });
        turn.effects.push(Effect::Launch(id));
        self.running.insert(id, RunningTask::new(task, attempt, false));
        Ok(())
    }

    fn position(&self, id: TaskId) -> Result<usize, usize> {
        self.queue.binary_search_by_key(&id, |waiting| waiting.task)
    }

    /// Puts the task where its age says; its position, from 1.
    fn join_queue(&mut self, ticket: Ticket) -> u32 {
        let Ticket { task, owner, created_at, priority, after, terms, demand, expected_seconds } = ticket;
        let index = self.position(task).unwrap_or_else(|index| index);
        let waiting = Waiting {
            task,
            owner,
            priority,
            urgency: terms.urgency,
            since: created_at,
            expected: expected_seconds.map(|seconds| SignedDuration::try_from_secs_f64(seconds).unwrap_or_default()),
            deadline: terms.deadline,
            demand,
            blocked: None,
            refused: self.refusals.of(task),
        };
        if !after.is_empty() {
            self.dependencies.insert(task, after);
        }
        self.queue.insert(index, waiting);
        index as u32 + 1
    }

    fn leave_queue(&mut self, id: TaskId) {
        self.dependencies.remove(&id);
        if let Ok(index) = self.position(id) {
            self.queue.remove(index);
        }
    }

    /// What newcomers to the queue wait for until the plan says it exactly.
    fn present_cause(&self) -> WaitCause {
        let running = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        match self.running.keys().next() {
            Some(oldest) => WaitCause::DevicesBusy { running: *oldest, busy: running },
            None => WaitCause::Detecting,
        }
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
        self.deferred
            .extend(std::mem::take(&mut turn.reports).into_iter().map(|report| Message::Report(Box::new(report))));
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
        let mut holders = devices::holders(Some(inventory), &self.running, &self.outbox.view, Timestamp::now());
        // When they will end changes with every look and is told elsewhere.
        holders.iter_mut().for_each(|holder| holder.ends_at = None);
        let status = DeviceStatus { inventory: inventory.clone(), holders };
        if self.outbox.view.devices().is_none_or(|current| *current != status) {
            let status = self.outbox.view.set_devices(status);
            self.outbox.publish(Event::Devices(status));
        }
    }
}

fn is_for_memory(cause: &WaitCause) -> bool {
    use WaitCause::{DeviceMemory, ForeignUse, TrialFailed, WholeDevice};
    matches!(cause, DeviceMemory { .. } | WholeDevice { .. } | ForeignUse { .. } | TrialFailed { .. })
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
