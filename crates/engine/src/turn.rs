use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use domain::{Progress, Task, TaskId, TaskState};
use store::{Change, TaskRecord, Transition};

use crate::{
    EngineError, Event, Submitted, TaskSnapshot,
    message::{Reply, Report},
    view,
};

/// What one pass of the loop decided: first made durable as a whole, then acted on.
#[derive(Default)]
pub struct Turn {
    pub changes: Vec<Change>,
    /// One for each change that the journal numbers, in the same order.
    pub announcements: Vec<Announcement>,
    pub effects: Vec<Effect>,
    pub answers: Vec<Answer>,
    /// Tasks this turn changes: what the database says of them is out of date until it is committed.
    pub touched: BTreeSet<TaskId>,
    /// Running tasks that go back to the queue, as the database will have them.
    pub requeued: BTreeMap<TaskId, TaskRecord>,
    /// Submissions whose state the plan decides.
    pub created: Vec<Created>,
    /// Reports acted on, to be heard again if the turn cannot be saved.
    pub reports: Vec<Report>,
}

pub struct Created {
    pub task: Task,
    pub who: String,
    /// `None`: it is one of a group, which is answered as one.
    pub reply: Option<Reply<Submitted>>,
}

pub enum Announcement {
    Task(Arc<TaskSnapshot>),
    Removed(TaskId),
}

/// What happens once the turn is durable. Each is harmless when done twice.
pub enum Effect {
    Launch(TaskId),
    /// SIGTERM, grace, SIGKILL; `now` skips the grace.
    Stop {
        task: TaskId,
        attempt: u32,
        now: bool,
    },
    ForgetLive(TaskId),
    RemoveFiles(TaskId),
}

pub enum Answer {
    Done(Reply<()>),
    Submitted(Reply<Submitted>, Submitted),
    Grouped(Reply<Vec<TaskId>>, Vec<TaskId>),
}

impl Turn {
    pub fn create(&mut self, task: Task, who: String, log: Vec<String>) -> Arc<TaskSnapshot> {
        let snapshot = snapshot(task.clone(), Progress::default(), &log);
        self.touched.insert(task.id);
        self.announcements.push(Announcement::Task(snapshot.clone()));
        self.changes.push(Change::Create { task: Box::new(task), who, log });
        snapshot
    }

    /// `task` is in its new state already.
    pub fn transition(&mut self, task: &Task, transition: Transition) {
        self.touched.insert(task.id);
        let snapshot = snapshot(task.clone(), transition.progress.clone(), &transition.log);
        self.announcements.push(Announcement::Task(snapshot));
        self.changes.push(Change::Transition(Box::new(transition)));
    }

    /// Tasks of this user that are held from now on and not in the database yet.
    pub fn held(&self, owner: &str) -> u32 {
        let held = |change: &&Change| matches!(change, Change::Create { task, .. } if task.owner == owner && task.state == TaskState::Pending);
        self.changes.iter().filter(held).count() as u32
    }

    pub fn answer_created(&mut self, reply: Option<Reply<Submitted>>, snapshot: Arc<TaskSnapshot>, waiting: usize) {
        let answer = |reply| Answer::Submitted(reply, Submitted { snapshot, waiting });
        self.answers.extend(reply.map(answer));
    }

    /// Tells everybody who waits for an answer that nothing was done.
    pub fn refuse(self, why: &str) {
        let error = || EngineError::NotSaved(why.to_owned());
        for answer in self.answers {
            match answer {
                Answer::Done(reply) => drop(reply.send(Err(error()))),
                Answer::Submitted(reply, _) => drop(reply.send(Err(error()))),
                Answer::Grouped(reply, _) => drop(reply.send(Err(error()))),
            }
        }
        for reply in self.created.into_iter().filter_map(|created| created.reply) {
            drop(reply.send(Err(error())));
        }
    }
}

impl Announcement {
    pub fn event(self, seq: u64) -> Event {
        match self {
            Announcement::Task(snapshot) => Event::Task { seq, snapshot },
            Announcement::Removed(task) => Event::Removed { seq, task },
        }
    }
}

fn snapshot(task: Task, progress: Progress, log: &[String]) -> Arc<TaskSnapshot> {
    Arc::new(TaskSnapshot { task, progress, log_tail: view::json(log) })
}
