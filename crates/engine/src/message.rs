use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
};

use domain::{Adjustment, Allowance, DeviceId, Estimate, Failure, Inventory, Measurement, Priority, TaskId, WaitCause};
use scheduler::Verdict;
use tokio::sync::{broadcast, oneshot};

use crate::{EngineError, Event, Submission, Submitted, View};

pub type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// Everything the loop reacts to.
pub enum Message {
    Submit {
        submission: Box<Submission>,
        who: String,
        reply: Reply<Submitted>,
    },
    /// All of them or none; with what sets each apart.
    SubmitGroup {
        submissions: Vec<(Submission, String)>,
        who: String,
        reply: Reply<Vec<TaskId>>,
    },
    Switch {
        switch: Switch,
        who: String,
        reply: Reply<()>,
    },
    /// What users may have, by name.
    Allowances(BTreeMap<String, Allowance>),
    Command {
        task: TaskId,
        command: Command,
        who: String,
        reply: Reply<()>,
    },
    /// Changes nothing.
    ByDevice {
        task: TaskId,
        reply: Reply<Vec<Verdict>>,
    },
    Inventory(Arc<Inventory>),
    Report(Box<Report>),
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

impl Message {
    /// Nobody waits for it, and it follows from what is written down already: a launch that went well.
    pub fn can_wait(&self) -> bool {
        matches!(self, Message::Report(report) if matches!(report.fact, Fact::Launched { .. } | Fact::TrainingBegan))
    }

    /// Tells whoever waits for an answer that nothing was done.
    pub fn refuse(self, why: &str) {
        let error = || EngineError::NotSaved(why.to_owned());
        match self {
            Message::Submit { reply, .. } => drop(reply.send(Err(error()))),
            Message::SubmitGroup { reply, .. } => drop(reply.send(Err(error()))),
            Message::Switch { reply, .. } | Message::Command { reply, .. } => drop(reply.send(Err(error()))),
            Message::ByDevice { reply, .. } => drop(reply.send(Err(error()))),
            Message::Allowances(_) | Message::Inventory(_) | Message::Report(_) | Message::Shutdown { .. } => {}
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Cancel,
    Hold,
    Release,
    Delete,
    /// To the head of its class.
    Next,
    /// Before another one of its class.
    Before(TaskId),
    Prioritise(Priority),
}

/// What people switch for the whole queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switch {
    /// Nothing starts any more.
    Pause,
    /// No new tasks are accepted.
    Drain,
    /// The same until the studio is started again; with `starts` false nothing starts, either.
    Close { starts: bool },
    /// Ends the closing, if there is one, else pause and drain.
    Resume,
    /// Nothing new starts on this device.
    Maintain(DeviceId),
    /// The device takes tasks again.
    Restore(DeviceId),
}

/// What a watcher saw happen to an attempt.
#[derive(Debug, Clone)]
pub struct Report {
    pub task: TaskId,
    pub attempt: u32,
    pub fact: Fact,
}

#[derive(Debug, Clone)]
pub enum Fact {
    /// The program runs.
    Launched { pid: u32 },
    /// It has read its model and data and takes its first step.
    TrainingBegan,
    /// What its first steps were measured to need.
    Probed { peak_bytes: u64, seconds_per_step: Option<f64> },
    /// It was not launched: the device has not the memory that was granted.
    Refused { device: DeviceId, cause: WaitCause },
    /// What the whole attempt was measured to need.
    Measured(Measurement),
    /// No process of it is left.
    Ended(Outcome),
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Completed,
    Failed(Failure),
    /// Failed for lack of memory; `next` is what to change before it is tried again.
    OutOfMemory {
        failure: Failure,
        next: Option<(Adjustment, Option<Estimate>)>,
    },
    /// Its supervisor was told to stop it.
    Stopped,
}

/// The loop's ear and mouth, for everybody who talks to it.
#[derive(Clone)]
pub struct Outbox {
    pub messages: mpsc::Sender<Message>,
    pub view: Arc<View>,
    pub events: broadcast::Sender<Event>,
}

impl Outbox {
    /// After the loop has ended messages go nowhere, which is what their senders then want.
    pub fn send(&self, message: Message) {
        let _ = self.messages.send(message);
    }

    pub fn publish(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }
}
