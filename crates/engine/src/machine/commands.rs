//! What people ask for.

use domain::{Group, Priority, Progress, Recipe, StateKind, Task, TaskId, TaskState, Terms, WaitReason};
use jiff::Timestamp;
use store::{Change, Revision, TaskRecord, Ticket, Transition};

use crate::{
    EngineError, Submission, Submitted,
    clock::stamped,
    machine::Machine,
    message::{Command, Reply},
    turn::{Announcement, Answer, Created, Effect, Turn},
};

impl Machine {
    pub fn command(&mut self, task: TaskId, command: Command, who: String, turn: &mut Turn) -> Result<(), EngineError> {
        match command {
            Command::Cancel => self.cancel(task, who, turn),
            Command::Hold => self.hold(task, who, turn),
            Command::Next => self.run_next(task, who, turn),
            Command::Before(other) => self.move_before(task, other, who, turn),
            Command::Prioritise(priority) => self.prioritise(task, priority, who, turn),
            Command::Release => self.release(task, who, turn),
            Command::Delete => self.delete(task, who, turn),
        }
    }

    pub fn submit(&mut self, submission: Submission, who: String, reply: Reply<Submitted>, turn: &mut Turn) {
        if let Err(error) = self.accepts(&who, 1, submission.recipe.gpus(), turn) {
            return drop(reply.send(Err(error)));
        }
        self.accept(submission, None, who, Some(reply), turn);
    }

    pub fn submit_group(
        &mut self,
        submissions: Vec<(Submission, String)>,
        who: String,
        reply: Reply<Vec<TaskId>>,
        turn: &mut Turn,
    ) {
        let size = submissions.len() as u32;
        let gpus = submissions.iter().map(|(submission, _)| submission.recipe.gpus()).max().unwrap_or(0);
        if let Err(error) = self.accepts(&who, size, gpus, turn) {
            return drop(reply.send(Err(error)));
        }
        let mut tasks: Vec<TaskId> = Vec::new();
        for ((submission, label), index) in submissions.into_iter().zip(0..) {
            let first = tasks.first().copied();
            tasks.push(self.accept(submission, Some((first, index, size, label)), who.clone(), None, turn));
        }
        turn.answers.push(Answer::Grouped(reply, tasks));
    }

    /// Whether this user may submit so many more, which want so many GPUs at once.
    fn accepts(&self, who: &str, more: u32, gpus: u32, turn: &Turn) -> Result<(), EngineError> {
        if let Some(switched) = self.control.refuses() {
            return Err(EngineError::Draining(switched.by.clone()));
        }
        let Some(allowance) = self.allowances.get(who) else { return Ok(()) };
        if let Some(limit) = allowance.gpus.filter(|limit| gpus > *limit) {
            return Err(EngineError::TooManyGpus { wanted: gpus, limit });
        }
        let Some(limit) = allowance.queued else { return Ok(()) };
        let queued = self.queue.iter().filter(|waiting| waiting.owner == who).count() as u32;
        let waiting = queued + self.store.held(who)? + turn.held(who);
        if waiting + more > limit { Err(EngineError::TooManyQueued { waiting, limit }) } else { Ok(()) }
    }

    /// With the first of its group, its place in it, the group's size and what sets it apart.
    fn accept(
        &mut self,
        submission: Submission,
        group: Option<(Option<TaskId>, u32, u32, String)>,
        who: String,
        reply: Option<Reply<Submitted>>,
        turn: &mut Turn,
    ) -> TaskId {
        let now = Timestamp::now();
        let id = TaskId::new(now.as_second(), self.next_number);
        self.next_number += 1;
        let group = group.map(|(first, index, size, label)| Group { first: first.unwrap_or(id), index, size, label });
        let mut recipe = submission.recipe;
        if let Recipe::FineTune(fine_tune) = &mut recipe {
            fine_tune.keep_checkpoints = fine_tune.keep_checkpoints.or(self.settings.keep_checkpoints);
        }
        let task = Task {
            id,
            name: submission.name,
            owner: who.clone(),
            created_at: now,
            time_limit: submission.time_limit.unwrap_or(self.settings.default_time_limit),
            recipe,
            priority: submission.priority,
            after: submission.after,
            terms: Terms { group, ..submission.terms },
            warnings: submission.warnings,
            estimate: submission.estimate,
            adjustments: Vec::new(),
            state: TaskState::Pending,
        };
        if submission.hold {
            let snapshot =
                turn.create(task, who, vec![stamped(now, "任务已保存，等待放行 / held until it is released")]);
            turn.answer_created(reply, snapshot, self.queue.len());
        } else {
            self.join_queue(Ticket::of(&task, &Progress::default()));
            turn.touched.insert(id);
            turn.created.push(Created { task, who, reply });
        }
        id
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
        self.leave_queue(id);
        self.refusals.forget(id);
        task.state = cancelled(task.state.started_at());
        log.push(stamped(now, "任务已取消 / cancelled"));
        if let Some(running) = self.running.get_mut(&id) {
            running.task = task.clone();
        }
        let why = "cancelled on request".to_owned();
        turn.transition(&task, Transition { task: id, from, to: task.state.clone(), at: now, who, why, progress, log });
        Ok(())
    }

    fn hold(&mut self, id: TaskId, who: String, turn: &mut Turn) -> Result<(), EngineError> {
        let TaskRecord { mut task, progress, mut log, .. } = self.waiting(id)?;
        self.leave_queue(id);
        self.refusals.forget(id);
        task.state = TaskState::Pending;
        let at = Timestamp::now();
        log.push(stamped(at, "已保留，等待放行 / held until it is released"));
        let (from, to, why) = (StateKind::Queued, TaskState::Pending, "held".to_owned());
        turn.transition(&task, Transition { task: id, from, to, at, who, why, progress, log });
        Ok(())
    }

    /// One place before all others of its class.
    fn run_next(&mut self, id: TaskId, who: String, turn: &mut Turn) -> Result<(), EngineError> {
        let record = self.waiting(id)?;
        let others = self.queue.iter().filter(|other| other.task != id && other.priority == record.task.priority);
        let urgency = others.map(|other| other.urgency).max().unwrap_or(0).max(0) + 1;
        self.reorder(record, urgency, who, "put at the head of the queue", turn);
        Ok(())
    }

    /// Those that come before the other one now are pinned there, so that only this one moves.
    fn move_before(&mut self, id: TaskId, other: TaskId, who: String, turn: &mut Turn) -> Result<(), EngineError> {
        let (record, place) = (self.waiting(id)?, self.position(other).map_err(|_| EngineError::NotQueued(other))?);
        let priority = record.task.priority;
        if self.queue[place].priority != priority {
            return Err(EngineError::OtherPriority(id, other));
        }
        let mut urgency = self.queue[place].urgency + 1;
        self.reorder(record, urgency, who.clone(), &format!("put before {other}"), turn);
        let waits = self.outbox.view.waits();
        let before: Vec<TaskId> = waits
            .tasks
            .iter()
            .map(|(task, _)| *task)
            .take_while(|task| *task != other)
            .filter(|task| *task != id)
            .collect();
        for task in before.into_iter().rev() {
            let Ok(index) = self.position(task) else { continue };
            if self.queue[index].priority != priority {
                continue;
            }
            urgency = self.queue[index].urgency.max(urgency + 1);
            if urgency != self.queue[index].urgency {
                self.reorder(self.waiting(task)?, urgency, who.clone(), &format!("kept before {id}"), turn);
            }
        }
        Ok(())
    }

    fn prioritise(&mut self, id: TaskId, priority: Priority, who: String, turn: &mut Turn) -> Result<(), EngineError> {
        let mut record = self.store.task(id)?.ok_or(EngineError::NotFound(id))?;
        if !matches!(record.task.state.kind(), StateKind::Queued | StateKind::Pending) {
            return Err(EngineError::NotQueued(id));
        }
        record.task.priority = priority;
        if let Ok(index) = self.position(id) {
            self.queue[index].priority = priority;
        }
        self.revise(record, who, format!("its priority is {priority:?} now").to_lowercase(), turn);
        Ok(())
    }

    fn reorder(&mut self, mut record: TaskRecord, urgency: i64, who: String, why: &str, turn: &mut Turn) {
        record.task.terms.urgency = urgency;
        if let Ok(index) = self.position(record.task.id) {
            self.queue[index].urgency = urgency;
        }
        self.revise(record, who, why.to_owned(), turn);
    }

    /// Writes down other terms of a task that stays where it is.
    fn revise(&mut self, record: TaskRecord, who: String, why: String, turn: &mut Turn) {
        let TaskRecord { task, progress, log, .. } = record;
        turn.changes.push(Change::Revise(Box::new(Revision::of(&task))));
        let (id, from, to, at) = (task.id, task.state.kind(), task.state.clone(), Timestamp::now());
        turn.transition(&task, Transition { task: id, from, to, at, who, why, progress, log });
    }

    /// As the database has it; an error unless it waits in the queue.
    fn waiting(&self, id: TaskId) -> Result<TaskRecord, EngineError> {
        let record = self.store.task(id)?.ok_or(EngineError::NotFound(id))?;
        self.position(id).map_err(|_| EngineError::NotQueued(id))?;
        Ok(record)
    }

    fn release(&mut self, id: TaskId, who: String, turn: &mut Turn) -> Result<(), EngineError> {
        let TaskRecord { mut task, progress, log, .. } = self.store.task(id)?.ok_or(EngineError::NotFound(id))?;
        if task.state != TaskState::Pending {
            return Err(EngineError::NotHeld(id));
        }
        task.terms.released_at = Some(Timestamp::now());
        turn.changes.push(Change::Revise(Box::new(Revision::of(&task))));
        let position = self.join_queue(Ticket::of(&task, &progress));
        let reason = WaitReason::new(position, self.present_cause());
        task.state = TaskState::Queued { reason };
        let (from, to, at, why) = (StateKind::Pending, task.state.clone(), Timestamp::now(), "released".to_owned());
        turn.transition(&task, Transition { task: id, from, to, at, who, why, progress, log });
        Ok(())
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
}
