//! What one pass of the loop lets the planner decide.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use domain::{Attempt, Grant, Progress, QuotaKind, StateKind, Task, TaskId, TaskState, Terms, WaitCause, WaitReason};
use jiff::{SignedDuration, Timestamp, Unit};
use scheduler::Verdict;
use store::{Change, Revision, Transition};

use crate::{
    EngineError,
    clock::stamped,
    devices,
    machine::{LONGEST_PAUSE, Machine, PLANNING_SHARE, RunningTask, reports::LONGEST_RETRY},
    pace::PaceMeter,
    turn::{Created, Effect, Turn},
    view::{Live, Waits},
};

/// For so many tasks it is worked out when they will start.
const FORECAST_TASKS: usize = 200;
/// While somebody waits for a training to be measured, its steps are looked at so often.
const PACE_EVERY: SignedDuration = SignedDuration::from_secs(1);
/// GPU time passes by itself: so often a user at the limit is looked at again.
const QUOTA_EVERY: SignedDuration = SignedDuration::from_secs(30);

impl Machine {
    /// Something has happened, and the planner has not been asked too often of late.
    pub fn is_due(&self) -> bool {
        self.stale && !self.unread && Instant::now() >= self.plan_again_at
    }

    /// Lets the planner decide and writes down what it decided.
    pub fn plan(&mut self, turn: &mut Turn) -> Waits {
        let (began, now) = (Instant::now(), Timestamp::now());
        self.stale = false;
        self.wake_at = None;
        self.look_at_refusals(began);
        self.look_at_blocks(turn, now);
        self.look_at_paces(began);
        self.warn_of_limits(turn, now);
        self.look_at_disk(turn, now);
        self.look_at_memory(turn, now);
        let closed = self.closed(now);
        let held = self.holders(now);
        let usage = self.usage_now(now);
        let (policy, inventory) = (&self.settings.policy, self.inventory.as_deref());
        let queue = self.queue_of(&held, &usage, closed.as_ref());
        let mut plan = scheduler::plan(policy, inventory, queue, now);
        // Paused tasks are few, and those that wait may be very many.
        if !self.paused.is_empty() {
            for (task, reason) in &mut plan.waits {
                reason.paused = self.paused.get(task).cloned();
            }
        }
        let minute = now.round(Unit::Minute).unwrap_or(now);
        let forecast = match (inventory, closed) {
            (Some(inventory), None) => {
                scheduler::forecast(policy, &plan, inventory, &self.queue, &held, minute, FORECAST_TASKS)
            }
            _ => Vec::new(),
        };
        if plan.waits.iter().any(|(_, reason)| matches!(*reason.cause, WaitCause::Measuring { .. })) {
            self.wake(now + PACE_EVERY, now);
        }
        self.plan_again_at = began + (began.elapsed() * PLANNING_SHARE).min(LONGEST_PAUSE);

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
        for created in std::mem::take(&mut turn.created) {
            let reason = waits.reason(created.task.id).cloned();
            let reason = reason.unwrap_or(WaitReason::new(1, WaitCause::Detecting));
            take_in(created, reason, waits.tasks.len(), turn);
        }
        self.remember_forecast(&waits, now, turn);
        waits
    }

    /// Without a plan newcomers wait for what others wait for, until the next one says it exactly.
    pub fn take_in(&self, turn: &mut Turn) {
        for created in std::mem::take(&mut turn.created) {
            let position = self.position(created.task.id).map_or(0, |index| index as u32) + 1;
            let reason = WaitReason::new(position, self.present_cause());
            take_in(created, reason, self.queue.len(), turn);
        }
    }

    /// What each device says to a waiting task; empty if it does not wait, or while detection has not answered.
    pub fn by_device(&self, task: TaskId) -> Vec<Verdict> {
        let (Some(inventory), Ok(_)) = (&self.inventory, self.position(task)) else { return Vec::new() };
        let now = Timestamp::now();
        let (held, usage) = (self.holders(now), self.usage_now(now));
        scheduler::by_device(&self.settings.policy, inventory, self.queue_of(&held, &usage, None), task, now)
    }

    /// What each user has had of late, and holds now.
    fn usage_now(&self, now: Timestamp) -> BTreeMap<String, f64> {
        let held = self.running.values().map(|running| (running.task.owner.as_str(), held_seconds(running, now)));
        self.usage.weighted(&self.allowances, held, now)
    }

    fn queue_of<'a>(
        &'a self,
        held: &'a [scheduler::Running],
        usage: &'a BTreeMap<String, f64>,
        closed: Option<&'a WaitCause>,
    ) -> scheduler::Queue<'a> {
        scheduler::Queue { waiting: &self.queue, running: held, usage, closed, quotas: &self.quotas }
    }

    pub fn holders(&self, now: Timestamp) -> Vec<scheduler::Running> {
        let trial = self.settings.packing_trial;
        devices::holders(self.inventory.as_deref(), &self.running, &self.outbox.view, trial, now)
    }

    /// Wakes the loop at that time, whatever else happens.
    pub fn wake(&mut self, at: Timestamp, now: Timestamp) {
        let rest = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let at = Instant::now() + rest.max(Duration::from_millis(1));
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn look_at_refusals(&mut self, now: Instant) {
        let refused_before: Vec<TaskId> = self.refusals.tasks().collect();
        self.refusals.update(self.inventory.as_deref(), now);
        for task in refused_before {
            if let Ok(index) = self.position(task) {
                self.queue[index].refused = self.refusals.of(task);
            }
        }
    }

    /// Who must not start whatever is free: for a dependency, a time, or because the day's GPU time is used up.
    fn look_at_blocks(&mut self, turn: &mut Turn, now: Timestamp) {
        let mut causes = self.look_at_dependencies(turn);
        // A clock that was set back must not keep a retry away for as long.
        let too_late = now + LONGEST_RETRY;
        self.later.retain(|_, (at, cause)| *at > now && !(matches!(cause, WaitCause::Retry { .. }) && *at > too_late));
        if let Some(next) = self.later.values().map(|(at, _)| *at).min() {
            self.wake(next, now);
        }
        causes.extend(self.later.iter().map(|(task, (_, cause))| (*task, cause.clone())));
        for (owner, cause) in self.out_of_gpu_time(now) {
            self.wake(now + QUOTA_EVERY, now);
            let theirs = self.queue.iter().filter(|waiting| waiting.owner == owner).map(|waiting| waiting.task);
            for task in theirs {
                causes.entry(task).or_insert_with(|| cause.clone());
            }
        }
        for task in std::mem::take(&mut self.blocked) {
            if let (false, Ok(index)) = (causes.contains_key(&task), self.position(task)) {
                self.queue[index].blocked = None;
            }
        }
        for (task, cause) in causes {
            if let Ok(index) = self.position(task) {
                self.queue[index].blocked = Some(cause.into());
                self.blocked.insert(task);
            }
        }
    }

    fn out_of_gpu_time(&self, now: Timestamp) -> Vec<(String, WaitCause)> {
        let limited =
            self.allowances.iter().filter_map(|(owner, allowance)| Some((owner, allowance.gpu_hours_per_day?)));
        let cause = |(owner, hours): (&String, f64)| {
            let running = self.running.values().filter(|running| running.task.owner == *owner);
            let a_day = |running: &RunningTask| 24.0 * 3600.0 * running.attempt.grant.devices.len() as f64;
            let running: f64 = running.map(|running| held_seconds(running, now).min(a_day(running))).sum();
            let (used, limit) = (self.usage.last_day(owner, now) + running, hours * 3600.0);
            let cause = WaitCause::Quota { kind: QuotaKind::GpuTime, used: used as u64, limit: limit as u64 };
            (used >= limit).then(|| (owner.clone(), cause))
        };
        limited.filter_map(cause).collect()
    }

    /// Looks how far those have come that share their devices, and those that do not.
    fn look_at_paces(&mut self, now: Instant) {
        let grants: Vec<(TaskId, Grant)> =
            self.running.iter().map(|(task, running)| (*task, running.attempt.grant.clone())).collect();
        for (task, running) in &mut self.running {
            if running.task.state.kind() != StateKind::Training {
                continue;
            }
            let mine = |grant: &Grant| {
                let devices = &running.attempt.grant.devices;
                grant.devices.iter().any(|theirs| devices.iter().any(|mine| mine.device == theirs.device))
            };
            let neighbours =
                grants.iter().filter(|(other, grant)| other != task && mine(grant)).map(|(other, _)| *other);
            let neighbours = neighbours.collect();
            running.pace.look(now, self.outbox.view.progress(*task).step, neighbours);
        }
    }

    /// What earlier attempts have taught about its pace on such a device.
    pub fn remembered(&self, task: &Task, grant: &Grant) -> PaceMeter {
        let device = self.model(grant);
        let known = task.terms.pace.as_ref().filter(|pace| device.as_ref() == Some(&pace.device));
        PaceMeter::knowing(known.map(|pace| pace.seconds_per_step))
    }

    /// What the first granted device is called.
    pub fn model(&self, grant: &Grant) -> Option<String> {
        Some(self.inventory.as_ref()?.get(&grant.devices.first()?.device)?.device.name.clone())
    }

    /// What was foretold when a task joined the queue is kept, to be compared with what comes of it.
    fn remember_forecast(&mut self, waits: &Waits, now: Timestamp, turn: &mut Turn) {
        let unforeseen = std::mem::take(&mut self.unforeseen);
        let foreseen = waits.forecast.iter().filter(|forecast| unforeseen.contains(&forecast.task));
        turn.changes.extend(foreseen.map(|forecast| Change::Forecast {
            task: forecast.task,
            made_at: now,
            starts_at: forecast.starts_at,
            ends_at: forecast.ends_at,
        }));
    }

    /// Decides a launch: from here on the attempt exists, whatever happens to the studio.
    fn begin(&mut self, id: TaskId, grant: Grant, turn: &mut Turn) -> Result<(), EngineError> {
        let now = Timestamp::now();
        let attempt = |number| Attempt { number, grant, started_at: now, pid: None };
        let created = turn.created.iter().position(|created| created.task.id == id);
        let (task, attempt, notes, progress) = match created {
            Some(index) => {
                let Created { mut task, who, reply } = turn.created.remove(index);
                let attempt = attempt(1);
                task.state = TaskState::Preparing { attempt: attempt.clone() };
                let notes = vec![stamped(now, starting_line(&attempt))];
                let snapshot = turn.create(task.clone(), who, notes.clone());
                turn.answer_created(reply, snapshot, 0);
                tracing::info!("[FinetuneManager] 启动任务: {id}");
                (task, attempt, notes, Progress::default())
            }
            None => {
                let record = match turn.requeued.remove(&id) {
                    Some(record) => record,
                    None => self.store.task(id)?.ok_or(EngineError::NotFound(id))?,
                };
                let (mut task, mut notes) = (record.task, record.log);
                if task.terms.paused.take().is_some() {
                    turn.changes.push(Change::Revise(Box::new(Revision::of(&task))));
                }
                let attempt = attempt(record.attempts + 1);
                // Whatever the database says: it may have been released in this very turn.
                let from = StateKind::Queued;
                task.state = TaskState::Preparing { attempt: attempt.clone() };
                notes.push(stamped(now, starting_line(&attempt)));
                let (to, who, why) = (task.state.clone(), "studio".to_owned(), "its turn".to_owned());
                let resumes = task.recipe.resumes();
                let so_far = if resumes { record.progress.of_next_attempt() } else { Progress::default() };
                let (progress, log) = (so_far.clone(), notes.clone());
                turn.transition(&task, Transition { task: id, from, to, at: now, who, why, progress, log });
                tracing::info!("[FinetuneManager] 启动排队任务: {id}");
                (task, attempt, notes, so_far)
            }
        };
        self.leave_queue(id);
        self.outbox.view.set_live(id, Live { notes, progress, ..Live::default() });
        turn.changes.push(Change::BeginAttempt { task: id, attempt: attempt.clone() });
        turn.effects.push(Effect::Launch(id));
        let pace = self.remembered(&task, &attempt.grant);
        let running = RunningTask { since: Some(Instant::now()), pace, ..RunningTask::new(task, attempt, false) };
        self.running.insert(id, running);
        Ok(())
    }
}

/// GPU-seconds that this attempt has had.
fn held_seconds(running: &RunningTask, now: Timestamp) -> f64 {
    let seconds = now.duration_since(running.attempt.started_at).as_secs_f64().max(0.0);
    seconds * running.attempt.grant.devices.len() as f64
}

/// Since when a task may start, if not at once, and how that reads.
pub fn not_yet(terms: &Terms) -> Option<(Timestamp, WaitCause)> {
    let at = terms.not_before?;
    let cause = match &terms.retry_after {
        Some(failure) => WaitCause::Retry { failure: failure.clone(), retry: terms.retried, at },
        None => WaitCause::NotBefore { at },
    };
    Some((at, cause))
}

fn take_in(created: Created, reason: WaitReason, waiting: usize, turn: &mut Turn) {
    let Created { mut task, who, reply } = created;
    let line = stamped(task.created_at, queued_line(&reason));
    task.state = TaskState::Queued { reason };
    let snapshot = turn.create(task, who, vec![line]);
    turn.answer_created(reply, snapshot, waiting);
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
