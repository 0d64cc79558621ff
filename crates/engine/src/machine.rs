//! The loop itself: its state, and what one pass does with a batch of messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use domain::{Allowance, Attempt, Control, Dependency, Inventory, StateKind, Task, TaskId, Terms, WaitCause};
use jiff::{SignedDuration, Timestamp};
use scheduler::{Quota, Waiting};
use store::{Change, Reader, Revision, TaskRecord, Ticket, Writer};

use crate::{
    EngineError, Event, Options, Settings,
    detection::Detection,
    disk,
    execute::Executor,
    host_memory,
    message::{Message, Outbox},
    pace::PaceMeter,
    refusals::Refusals,
    strays,
    turn::{Answer, Effect, Turn},
    usage::{REMEMBERED, Usage},
    view::{DeviceStatus, Live, Waits},
};

mod commands;
mod dependencies;
mod planning;
mod reports;
mod switches;

/// Messages handled, and made durable, in one go.
const BATCH: usize = 512;
/// The planner gets at most one part in so many of the loop's time, and is never kept waiting longer than
/// [`LONGEST_PAUSE`]: storms of events with a long queue are answered by one plan for many.
const PLANNING_SHARE: u32 = 20;
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// Waiting tasks hear of a new position at most this often.
const QUEUE_EVENTS_EVERY: Duration = Duration::from_millis(100);
/// How often what plans and requests have left of the heap goes back to the system.
const TIDY_EVERY: Duration = Duration::from_secs(10);
/// So long the news that a launch went well waits for company: a short task's end shares its commit, instead of waiting for it.
const LEISURE: Duration = Duration::from_millis(3);
/// A turn that could not be saved is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub struct Machine {
    settings: Settings,
    store: Writer,
    outbox: Outbox,
    executor: Executor,
    detection: Detection,
    /// As measured.
    measured: Option<Arc<Inventory>>,
    /// As measured, with devices in maintenance as unusable.
    inventory: Option<Arc<Inventory>>,
    control: Control,
    allowances: BTreeMap<String, Allowance>,
    quotas: BTreeMap<String, Quota>,
    /// Sorted by creation.
    queue: Vec<Waiting>,
    /// Of the tasks in the queue that wait for others to end.
    dependencies: BTreeMap<TaskId, Vec<Dependency>>,
    /// Tasks in the queue that must not start before a time, and how that reads.
    later: BTreeMap<TaskId, (Timestamp, WaitCause)>,
    /// Why tasks in the queue were stopped at a checkpoint.
    paused: BTreeMap<TaskId, Arc<WaitCause>>,
    /// Tasks in the queue that must not start whatever is free.
    blocked: BTreeSet<TaskId>,
    refusals: Refusals,
    usage: Usage,
    home: PathBuf,
    disk: disk::Guard,
    disk_verdict: disk::Verdict,
    memory: host_memory::Guard,
    /// Attempts of which a process may live: each holds its grant, also while it is being stopped.
    running: BTreeMap<TaskId, RunningTask>,
    next_number: u64,
    /// Heard, but to be acted on in a later turn.
    deferred: Vec<Message>,
    retry_at: Option<Instant>,
    /// A turn could not be saved, and the store not be read since: nothing is decided until it was.
    unread: bool,
    /// Something happened since the last plan.
    stale: bool,
    /// Before that the planner is not asked again.
    plan_again_at: Instant,
    /// Something happens by itself then, such as the end of quiet hours.
    wake_at: Option<Instant>,
    /// Joined the queue in this or an earlier turn, and nothing was forecast for them yet.
    unforeseen: BTreeSet<TaskId>,
    /// When the changed queue is to be published.
    publish_queue_at: Option<Instant>,
    /// When the heap was last given back.
    tidied_at: Instant,
}

pub struct RunningTask {
    /// Preparing, training, or cancelled while its processes end.
    pub task: Task,
    pub attempt: Attempt,
    pub removed: bool,
    /// When it was launched; `None`: by an earlier studio process.
    pub since: Option<Instant>,
    /// How fast it trains alone and beside others.
    pub pace: PaceMeter,
    /// It was warned that its time is almost up.
    pub warned_of_limit: bool,
    /// Programs (by pid) about whose memory it was warned already.
    pub blamed: Vec<Option<u32>>,
}

impl RunningTask {
    fn new(task: Task, attempt: Attempt, removed: bool) -> RunningTask {
        let pace = PaceMeter::default();
        let warned_of_limit = task.warnings.iter().any(|warning| warning.code == switches::LIMIT_NEAR);
        RunningTask { task, attempt, removed, since: None, pace, warned_of_limit, blamed: Vec::new() }
    }

    /// It is being stopped at a checkpoint, to go on later.
    pub fn is_pausing(&self) -> bool {
        self.task.terms.paused.is_some()
    }

    /// It can be stopped at a checkpoint now.
    pub fn can_pause(&self) -> bool {
        self.task.state.kind() == StateKind::Training && !self.is_pausing() && self.task.recipe.resumes()
    }

    /// Stops it at a checkpoint for this reason, which outlives the studio.
    pub fn pause(&mut self, cause: WaitCause, turn: &mut Turn) {
        self.task.terms.paused = Some(cause);
        turn.changes.push(Change::Revise(Box::new(Revision::of(&self.task))));
        turn.effects.push(Effect::Stop { task: self.task.id, attempt: self.attempt.number, now: false });
    }

    /// Seconds that this attempt has run.
    pub fn ran(&self, now: Timestamp) -> u64 {
        let by_the_clock = || now.duration_since(self.attempt.started_at).as_secs().max(0) as u64;
        self.since.map_or_else(by_the_clock, |since| since.elapsed().as_secs())
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
            measured: None,
            inventory: None,
            control: Control::default(),
            allowances: BTreeMap::new(),
            quotas: BTreeMap::new(),
            queue: Vec::new(),
            dependencies: BTreeMap::new(),
            later: BTreeMap::new(),
            paused: BTreeMap::new(),
            blocked: BTreeSet::new(),
            refusals: Refusals::default(),
            usage: Usage::default(),
            home: options.home.root().to_owned(),
            disk: disk::Guard::default(),
            disk_verdict: disk::Verdict::Enough,
            memory: host_memory::Guard::new(
                options.settings.meminfo.clone().map_or_else(host_memory::Source::machine, host_memory::Source::file),
                options.settings.min_free_memory,
            ),
            running: BTreeMap::new(),
            deferred: Vec::new(),
            retry_at: None,
            unread: false,
            stale: true,
            plan_again_at: Instant::now(),
            wake_at: None,
            unforeseen: BTreeSet::new(),
            publish_queue_at: None,
            tidied_at: Instant::now(),
        };
        machine.reload()?;
        // Whoever closed it wanted it to stop, which it has.
        if machine.control.closing.take().is_some() {
            machine.store.commit(&[Change::Control(Box::new(machine.control.clone()))])?;
            machine.outbox.view.set_control(machine.control.clone());
        }
        let since = Timestamp::now().checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
        for (owner, attempt, ended_at) in machine.store.ended_attempts(since)? {
            machine.usage.add(&owner, &attempt, ended_at);
        }
        machine.next_number = machine.next_number.max(strays::stop(&options.home, &machine.running) + 1);
        for running in machine.running.values() {
            machine.executor.adopt(running);
        }
        Ok(machine)
    }

    /// Makes memory say what the store says; as it was if that cannot be read.
    fn reload(&mut self) -> Result<(), EngineError> {
        let (last, control) = (self.store.last_number()?, self.store.control()?);
        let (queued, live) = (self.store.queued()?, self.store.live_attempts()?);
        self.next_number = self.next_number.max(last + 1);
        self.queue.clear();
        self.dependencies.clear();
        self.later.clear();
        self.paused.clear();
        self.blocked.clear();
        self.unforeseen.clear();
        self.stale = true;
        self.control = control;
        self.take_in_maintenance();
        self.outbox.view.set_control(self.control.clone());
        for ticket in queued {
            self.join_queue(ticket);
        }
        let before = std::mem::take(&mut self.running);
        for live in live {
            let TaskRecord { task, progress, log, .. } = live.record;
            if self.outbox.view.live(task.id).notes.is_empty() {
                self.outbox.view.set_live(task.id, Live { progress, notes: log, ..Live::default() });
            }
            let since = before.get(&task.id).filter(|known| known.attempt.number == live.attempt.number);
            let since = since.and_then(|known| known.since);
            let pace = self.remembered(&task, &live.attempt.grant);
            let running = RunningTask { since, pace, ..RunningTask::new(task, live.attempt, live.removed) };
            self.running.insert(running.task.id, running);
        }
        self.unread = false;
        Ok(())
    }

    pub fn run(mut self, inbox: mpsc::Receiver<Message>) {
        while let Some(batch) = self.next_batch(&inbox) {
            let batch = if self.can_read() { batch } else { self.put_off(batch) };
            let mut turn = Turn::default();
            let mut goodbyes = Vec::new();
            for message in batch {
                match message {
                    Message::Shutdown { reply } => goodbyes.push(reply),
                    message => self.handle(message, &mut turn),
                }
            }
            let plan = self.is_due().then(|| self.plan(&mut turn));
            if plan.is_none() {
                self.take_in(&mut turn);
            }
            self.finish(turn, plan);
            if !goodbyes.is_empty() {
                for reply in goodbyes {
                    let _ = reply.send(());
                }
                return;
            }
            if self.tidied_at.elapsed() >= TIDY_EVERY {
                runner::give_heap_back();
                self.tidied_at = Instant::now();
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
            let plan_at = (self.stale && !self.unread).then_some(self.plan_again_at);
            let next = [self.retry_at, self.publish_queue_at, self.refusals.next(), self.wake_at, plan_at];
            match next.into_iter().flatten().min() {
                None => batch.push(inbox.recv().ok()?),
                Some(deadline) => match inbox.recv_timeout(deadline.saturating_duration_since(now)) {
                    Ok(message) => batch.push(message),
                    Err(mpsc::RecvTimeoutError::Timeout) => self.stale = true,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                },
            }
        }
        batch.extend(inbox.try_iter().take(BATCH));
        let leave = Instant::now() + LEISURE;
        while !batch.is_empty() && batch.iter().all(Message::can_wait) {
            match inbox.recv_timeout(leave.saturating_duration_since(Instant::now())) {
                Ok(message) => batch.push(message),
                Err(_) => break,
            }
        }
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
            Message::SubmitGroup { submissions, who, reply } => self.submit_group(submissions, who, reply, turn),
            Message::Switch { switch, who, reply } => {
                self.switch(switch, who, turn);
                turn.answers.push(Answer::Done(reply));
            }
            Message::Allowances(allowances) => self.allow(allowances),
            Message::ByDevice { task, reply } => return drop(reply.send(Ok(self.by_device(task)))),
            Message::Inventory(inventory) => {
                self.measured = Some(inventory);
                self.take_in_maintenance();
                self.look_after_devices(turn);
            }
            Message::Report(report) => self.hear(*report, turn),
            Message::Shutdown { .. } => unreachable!("taken out by run"),
        }
        self.stale = true;
    }

    fn position(&self, id: TaskId) -> Result<usize, usize> {
        self.queue.binary_search_by_key(&id, |waiting| waiting.task)
    }

    /// Puts the task where its age says; its position, from 1.
    fn join_queue(&mut self, ticket: Ticket) -> u32 {
        let Ticket { task, owner, created_at, priority, after, terms, demand, expected_seconds, has_pace } = ticket;
        let index = self.position(task).unwrap_or_else(|index| index);
        let waiting = Waiting {
            task,
            owner,
            priority,
            urgency: terms.urgency,
            since: waits_since(created_at, &terms),
            expected: expected_seconds.map(|seconds| SignedDuration::try_from_secs_f64(seconds).unwrap_or_default()),
            deadline: terms.deadline,
            demand,
            blocked: None,
            refused: self.refusals.of(task),
            timed: has_pace,
        };
        if !after.is_empty() {
            self.dependencies.insert(task, after);
        }
        if let Some(later) = planning::not_yet(&terms) {
            self.later.insert(task, later);
        }
        if let Some(paused) = terms.paused {
            self.paused.insert(task, paused.into());
        }
        self.unforeseen.insert(task);
        self.queue.insert(index, waiting);
        index as u32 + 1
    }

    fn leave_queue(&mut self, id: TaskId) {
        self.dependencies.remove(&id);
        self.later.remove(&id);
        self.paused.remove(&id);
        self.blocked.remove(&id);
        self.unforeseen.remove(&id);
        if let Ok(index) = self.position(id) {
            self.queue.remove(index);
        }
    }

    /// What newcomers to the queue wait for until the plan says it exactly.
    fn present_cause(&self) -> WaitCause {
        let Some(inventory) = &self.inventory else { return WaitCause::Detecting };
        match self.running.keys().next() {
            Some(oldest) if self.running.len() >= inventory.devices.len() => {
                let busy = u32::try_from(inventory.devices.len()).unwrap_or(u32::MAX);
                WaitCause::DevicesBusy { running: *oldest, busy, wanted: 0, free: 0 }
            }
            _ => WaitCause::Planning,
        }
    }

    /// Makes the turn durable, then acts on it. If it cannot be saved, nothing of it happened.
    fn finish(&mut self, mut turn: Turn, waits: Option<Waits>) {
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
                Answer::Grouped(reply, tasks) => drop(reply.send(Ok(tasks))),
            }
        }
    }

    fn undo(&mut self, mut turn: Turn, why: &str) {
        tracing::error!("could not save, nothing was changed: {why}");
        self.deferred
            .extend(std::mem::take(&mut turn.reports).into_iter().map(|report| Message::Report(Box::new(report))));
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        turn.refuse(why);
        self.unread = true;
        self.can_read();
    }

    /// Tries again what could not be read, if anything. While it cannot, memory may say what never happened.
    fn can_read(&mut self) -> bool {
        if self.unread
            && let Err(error) = self.reload()
        {
            tracing::error!("could not read the store either: {error}");
            self.retry_at = Some(Instant::now() + RETRY_AFTER);
        }
        !self.unread
    }

    /// Refuses what people ask for, keeps what was reported; what is left can be done at any time.
    fn put_off(&mut self, batch: Vec<Message>) -> Vec<Message> {
        let mut now = Vec::new();
        for message in batch {
            match message {
                Message::Report(_) => self.deferred.push(message),
                Message::Inventory(inventory) => self.measured = Some(inventory),
                Message::Allowances(_) | Message::Shutdown { .. } => now.push(message),
                message => message.refuse("the database cannot be read"),
            }
        }
        now
    }

    /// Updates what readers see of queue and devices.
    fn show(&mut self, waits: Option<Waits>) {
        if self.unread {
            return;
        }
        let now = Instant::now();
        if waits.is_some_and(|waits| self.outbox.view.set_waits(waits)) {
            self.publish_queue_at.get_or_insert(now + QUEUE_EVENTS_EVERY);
        }
        if self.publish_queue_at.is_some_and(|at| at <= now) {
            self.publish_queue_at = None;
            self.outbox.publish(Event::Queue(self.outbox.view.waits()));
        }
        let Some(inventory) = self.inventory.clone() else { return };
        let mut holders = self.holders(Timestamp::now());
        // What changes with every look is told elsewhere.
        holders.iter_mut().for_each(|holder| (holder.ends_at, holder.pace) = (None, None));
        let status = DeviceStatus { inventory, holders };
        if self.outbox.view.devices().is_none_or(|current| *current != status) {
            let status = self.outbox.view.set_devices(status);
            self.outbox.publish(Event::Devices(status));
        }
    }
}

/// Held, or asked to wait for a time, it was not in anybody's way; a pause between two tries does not make it younger.
fn waits_since(created_at: Timestamp, terms: &Terms) -> Timestamp {
    let asked = terms.not_before.filter(|_| terms.retry_after.is_none());
    [terms.released_at, asked].into_iter().flatten().fold(created_at, Timestamp::max)
}
