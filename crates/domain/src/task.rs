use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Adjustment, DeviceId, Estimate, Failure, Recipe, TaskId, WaitCause, WaitReason};

/// One fine-tune somebody asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub name: Option<String>,
    pub owner: String,
    pub created_at: Timestamp,
    /// Seconds that its attempts may run, all together, before it is ended.
    pub time_limit: u64,
    pub recipe: Recipe,
    pub priority: Priority,
    /// Tasks that must have ended before it may start.
    pub after: Vec<Dependency>,
    pub terms: Terms,
    pub warnings: Vec<Warning>,
    /// Of the recipe as adjusted; `None` where nothing is known about its needs.
    pub estimate: Option<Estimate>,
    /// Made after attempts that ran out of memory, in this order.
    pub adjustments: Vec<Adjustment>,
    pub state: TaskState,
}

impl Task {
    /// Seconds that the next attempt may run; never none, so that it ends as one that ran out of time.
    pub fn time_left(&self) -> u64 {
        self.time_limit.saturating_sub(self.terms.used).max(1)
    }
}

/// Where a task stands, with everything that is only true there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskState {
    /// Accepted and held back by its owner; not in the queue until released.
    Pending,
    Queued {
        reason: WaitReason,
    },
    /// An attempt was decided on and is being launched, or fetches its model.
    Preparing {
        attempt: Attempt,
    },
    Training {
        attempt: Attempt,
    },
    Completed {
        started_at: Timestamp,
        ended_at: Timestamp,
    },
    Failed {
        failure: Failure,
        started_at: Option<Timestamp>,
        ended_at: Timestamp,
    },
    Cancelled {
        by: String,
        started_at: Option<Timestamp>,
        ended_at: Timestamp,
    },
}

impl TaskState {
    pub fn kind(&self) -> StateKind {
        match self {
            TaskState::Pending => StateKind::Pending,
            TaskState::Queued { .. } => StateKind::Queued,
            TaskState::Preparing { .. } => StateKind::Preparing,
            TaskState::Training { .. } => StateKind::Training,
            TaskState::Completed { .. } => StateKind::Completed,
            TaskState::Failed { .. } => StateKind::Failed,
            TaskState::Cancelled { .. } => StateKind::Cancelled,
        }
    }

    pub fn attempt(&self) -> Option<&Attempt> {
        match self {
            TaskState::Preparing { attempt } | TaskState::Training { attempt } => Some(attempt),
            _ => None,
        }
    }

    pub fn started_at(&self) -> Option<Timestamp> {
        match self {
            TaskState::Pending | TaskState::Queued { .. } => None,
            TaskState::Preparing { attempt } | TaskState::Training { attempt } => Some(attempt.started_at),
            TaskState::Completed { started_at, .. } => Some(*started_at),
            TaskState::Failed { started_at, .. } | TaskState::Cancelled { started_at, .. } => *started_at,
        }
    }

    pub fn ended_at(&self) -> Option<Timestamp> {
        match self {
            TaskState::Completed { ended_at, .. }
            | TaskState::Failed { ended_at, .. }
            | TaskState::Cancelled { ended_at, .. } => Some(*ended_at),
            _ => None,
        }
    }
}

/// A state without its data: the word that APIs, page and journal use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    Pending,
    Queued,
    Preparing,
    Training,
    Completed,
    Failed,
    Cancelled,
}

impl StateKind {
    pub const ALL: [StateKind; 7] = [
        StateKind::Pending,
        StateKind::Queued,
        StateKind::Preparing,
        StateKind::Training,
        StateKind::Completed,
        StateKind::Failed,
        StateKind::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            StateKind::Pending => "pending",
            StateKind::Queued => "queued",
            StateKind::Preparing => "preparing",
            StateKind::Training => "training",
            StateKind::Completed => "completed",
            StateKind::Failed => "failed",
            StateKind::Cancelled => "cancelled",
        }
    }

    pub fn parse(word: &str) -> Option<StateKind> {
        StateKind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Nothing more happens to a task in this state.
    pub fn is_final(self) -> bool {
        matches!(self, StateKind::Completed | StateKind::Failed | StateKind::Cancelled)
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One launch of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 for the first launch; with the task id it names a launch for ever.
    pub number: u32,
    pub grant: Grant,
    pub started_at: Timestamp,
    /// Of the training process, once it runs.
    pub pid: Option<u32>,
}

/// Classes of tasks: a higher one goes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
    /// May interrupt others.
    Urgent,
}

/// Another task that has to end first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    pub task: TaskId,
    pub condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It has completed; if it ends otherwise, whoever waits for it fails.
    Ok,
    /// It has ended in any way.
    Any,
}

/// When a task may and should run, and how it is treated beside others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// Chosen by hand within its class: the higher the sooner, 0 by itself.
    pub urgency: i64,
    /// It does not start earlier.
    pub not_before: Option<Timestamp>,
    /// It should have ended by then.
    pub deadline: Option<Timestamp>,
    /// So often it is tried again after a failure that was not its own; `None`: as its kind of recipe has it.
    pub retries: Option<u32>,
    /// So often it was tried again.
    pub retried: u32,
    /// The step at which the attempt had begun after which it was tried again last.
    pub retried_from: u64,
    /// The failure after which it waits to be tried again.
    pub retry_after: Option<String>,
    /// Seconds that its attempts have run, all but the present one.
    pub used: u64,
    /// When it was released last; held before, it did not wait.
    pub released_at: Option<Timestamp>,
    /// Why it is being, or was, stopped at a checkpoint to go on later; forgotten when it does.
    pub paused: Option<WaitCause>,
    /// It is being stopped for this, which then is how its attempt failed.
    pub broken: Option<Failure>,
    /// Sharing a GPU slowed it down too much: from now on it gets devices to itself.
    pub alone: bool,
    /// How fast it trained alone, as far as it was measured.
    pub pace: Option<AlonePace>,
    /// Set if it was submitted with others as one.
    pub group: Option<Group>,
}

impl Terms {
    /// How often it was tried again in a row, for an attempt that began at this step: one that began later than the last
    /// that failed had saved a checkpoint in between, so that the task gets on in spite of all.
    pub fn retried_in_a_row(&self, began_step: u64) -> u32 {
        if began_step > self.retried_from { 0 } else { self.retried }
    }

    /// That attempt failed, and it is tried again.
    pub fn count_retry(&mut self, began_step: u64) {
        self.retried = self.retried_in_a_row(began_step) + 1;
        self.retried_from = began_step;
    }
}

/// How long a step takes of a training that has its devices to itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlonePace {
    /// Name of the device's model.
    pub device: String,
    pub seconds_per_step: f64,
}

/// Tasks that were submitted as one: a sweep over parameters, or an array of commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The first task of the group, which gives it its name.
    pub first: TaskId,
    /// From 0.
    pub index: u32,
    /// Number of tasks.
    pub size: u32,
    /// What sets this one apart, such as `learning_rate=1e-4 lora_rank=8`.
    pub label: String,
}

/// What an attempt needs before it can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// All at once; at least 1.
    pub devices: u32,
    /// Bytes on each; `None`: unknown, so it gets devices to itself.
    pub memory: Option<u64>,
    /// May train on a GPU beside other tasks of the studio.
    pub shares: bool,
}

impl Demand {
    pub fn of(task: &Task) -> Demand {
        let estimated = task.estimate.as_ref().map(|estimate| estimate.grant_bytes);
        let memory = match &task.recipe {
            Recipe::FineTune(_) => estimated,
            Recipe::Command(command) => command.memory_bytes,
        };
        Demand { devices: task.recipe.gpus(), memory, shares: task.recipe.shares() && !task.terms.alone }
    }
}

/// Devices and bytes promised to an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub devices: Vec<DeviceGrant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceGrant {
    pub device: DeviceId,
    /// Bytes of device memory; `None` grants the whole device.
    pub bytes: Option<u64>,
}

/// How far an attempt has come, as its trainer reports it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// 0 to 100.
    pub percent: f64,
    pub epoch: f64,
    pub total_epochs: u32,
    pub step: u64,
    pub total_steps: u64,
    /// The step of the checkpoint that this attempt went on from.
    pub began_step: u64,
    pub loss: Option<f64>,
    pub learning_rate: Option<f64>,
    pub grad_norm: Option<f64>,
    pub tokens_per_second: Option<f64>,
    /// Host memory of the training process, in bytes.
    pub memory_bytes: Option<u64>,
    /// Device memory it holds now, in bytes, as the trainer knows it.
    pub device_bytes: Option<u64>,
    /// The most memory it ever held where its grant is (device, or host on the CPU), in bytes.
    pub peak_bytes: Option<u64>,
    /// The most that its allocator had handed out, in bytes.
    pub peak_allocated_bytes: Option<u64>,
    /// Tokens of the longest micro-batch, padding included, if it was probed.
    pub longest_batch: Option<u64>,
    pub seconds_per_step: Option<f64>,
    /// Bytes of the model fetched so far and in all, while it is being fetched.
    pub fetch: Option<(u64, Option<u64>)>,
}

impl Progress {
    /// 0 to 100: what earlier attempts had done.
    pub fn began_percent(&self) -> f64 {
        if self.total_steps == 0 { 0.0 } else { 100.0 * self.began_step as f64 / self.total_steps as f64 }
    }

    /// What a task that goes on from its last checkpoint shows until its next attempt says how far it is.
    pub fn of_next_attempt(self) -> Progress {
        let Progress { percent, epoch, total_epochs, step, total_steps, loss, .. } = self;
        Progress { percent, epoch, total_epochs, step, total_steps, began_step: step, loss, ..Progress::default() }
    }
}

/// Something the user should know about an accepted task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    pub code: String,
    pub zh: String,
    pub en: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_counted_in_a_row() {
        let mut terms = Terms::default();
        let mut fails = |began_step| {
            terms.count_retry(began_step);
            terms.retried
        };
        assert_eq!([fails(0), fails(0), fails(0)], [1, 2, 3], "it gets nowhere");
        assert_eq!(
            [fails(100), fails(100), fails(250), fails(250)],
            [1, 2, 1, 2],
            "it went on from a later checkpoint"
        );
        assert_eq!(terms.retried_in_a_row(250), 2);
        assert_eq!(terms.retried_in_a_row(251), 0);
    }
}
