//! What people ask for.

use domain::{StateKind, Task, TaskId, TaskState, WaitReason};
use jiff::Timestamp;
use store::{Change, TaskRecord, Ticket, Transition};

use crate::{
    EngineError, Submission, Submitted,
    clock::stamped,
    machine::Machine,
    message::{Command, Reply},
    turn::{Announcement, Created, Effect, Turn},
};

impl Machine {
    pub fn command(&mut self, task: TaskId, command: Command, who: String, turn: &mut Turn) -> Result<(), EngineError> {
        match command {
            Command::Cancel => self.cancel(task, who, turn),
            Command::Release => self.release(task, who, turn),
            Command::Delete => self.delete(task, who, turn),
        }
    }

    pub fn submit(&mut self, submission: Submission, who: String, reply: Reply<Submitted>, turn: &mut Turn) {
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
            priority: submission.priority,
            after: submission.after,
            terms: submission.terms,
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
            self.join_queue(Ticket::of(&task));
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

    fn release(&mut self, id: TaskId, who: String, turn: &mut Turn) -> Result<(), EngineError> {
        let TaskRecord { mut task, progress, log, .. } = self.store.task(id)?.ok_or(EngineError::NotFound(id))?;
        if task.state != TaskState::Pending {
            return Err(EngineError::NotHeld(id));
        }
        let position = self.join_queue(Ticket::of(&task));
        let reason = WaitReason { position, cause: self.present_cause().into() };
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
