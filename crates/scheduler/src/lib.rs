//! Decides what starts now, what makes room, and why the rest waits.
//!
//! Pure: no IO, no clock, no randomness. The daemon and the simulator call the same [`plan`].
//!
//! The stages read one after the other in one [`pass`] over the queue: [`reclaim`] what services take back, [`order`] the
//! queue, the longest of a [`batch`] first, [`ledger`] what each device has left, [`quota`] what its owner may still have, [`place`] tasks on it, [`preempt`] for
//! the first that does not fit, [`reserve`] devices for it and let others go first where that does not delay it, [`explain`]
//! the rest, undo [`packing`] that does not pay. [`forecast`] says when it will all happen, [`by_device`] what each device says to one task.

mod batch;
mod by_device;
mod explain;
mod forecast;
mod ledger;
mod order;
mod packing;
mod pass;
mod place;
mod policy;
mod preempt;
mod quota;
mod reclaim;
mod reserve;

use std::{collections::BTreeMap, sync::Arc};

use domain::{Demand, DeviceId, Grant, Inventory, MemoryHolder, Priority, Reading, TaskId, WaitCause, WaitReason};
use jiff::{SignedDuration, Timestamp};

use batch::Batch;
use pass::Pass;

pub use by_device::{Refusal, Verdict, by_device};
pub use explain::label;
pub use forecast::{Forecast, forecast};
pub use policy::{Policy, Preemption};

/// Everything that wants or holds a device.
#[derive(Debug, Clone, Copy)]
pub struct Queue<'a> {
    pub waiting: &'a [Waiting],
    pub running: &'a [Running],
    /// GPU-seconds that each user has used of late, divided by the user's weight.
    pub usage: &'a BTreeMap<String, f64>,
    /// Why nothing may start at all: a paused queue, quiet hours, a full disk.
    pub closed: Option<&'a WaitCause>,
    /// What users may have at once; who is not in it may have all.
    pub quotas: &'a BTreeMap<String, Quota>,
}

/// What one user may have at once. `None`: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Tasks.
    pub running: Option<u32>,
    /// GPUs; two tasks on one count twice.
    pub gpus: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    pub task: TaskId,
    pub owner: String,
    pub priority: Priority,
    /// Chosen by hand among its class: the higher the sooner, 0 by itself.
    pub urgency: i64,
    /// When it came into the queue for the first time.
    pub since: Timestamp,
    /// How long it will run; `None`: unknown.
    pub expected: Option<SignedDuration>,
    /// It should have ended by then.
    pub deadline: Option<Timestamp>,
    pub demand: Demand,
    /// Why it must not start whatever is free: a dependency, quiet hours, a quota.
    pub blocked: Option<Arc<WaitCause>>,
    /// Devices that it was refused on a moment ago, and why: not to be tried in this plan.
    pub refused: Vec<(DeviceId, WaitCause)>,
    /// Its steps will be timed: it joins nobody whose own steps are still to be timed alone.
    pub timed: bool,
}

/// An attempt that holds its grant until its last process has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    pub task: TaskId,
    pub owner: String,
    pub grant: Grant,
    /// Bytes in use of each device of the grant, in its order; `None`: unknown.
    pub used: Vec<Option<u64>>,
    pub priority: Priority,
    pub started_at: Timestamp,
    /// `None`: unknown.
    pub ends_at: Option<Timestamp>,
    pub shares: bool,
    /// What it would lose if it were stopped now, for example since its last checkpoint; `None`: it cannot go on later.
    pub loss: Option<SignedDuration>,
    /// It is being stopped already: what it holds comes free in a moment.
    pub stopping: bool,
    /// How fast it goes beside those that share its device; `None`: it has the device to itself, or has not been
    /// measured for long enough.
    pub pace: Option<Pace>,
    /// How fast it goes with its devices to itself is being found out.
    pub measuring: bool,
}

/// Seconds that a step takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// With the device to itself; `None`: never measured.
    pub alone: Option<f64>,
    /// Beside those that share it now.
    pub shared: f64,
}

/// The answer for one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub starts: Vec<Start>,
    pub preempts: Vec<Preempt>,
    /// Every waiting task that is not started, in the order in which tasks get their chance.
    pub waits: Vec<(TaskId, WaitReason)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    pub task: TaskId,
    pub grant: Grant,
}

/// Stop this one at a checkpoint; it goes on later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preempt {
    pub task: TaskId,
    pub why: PreemptReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreemptReason {
    /// So that this one can start.
    InFavourOf(TaskId),
    /// To go on alone on an idle GPU.
    ToMove,
    /// A service has taken back memory that was promised to it; this process of the service.
    Reclaimed { pid: u32 },
    /// The two together make too little of one GPU: this percentage of what one alone would.
    NotPaying { with: TaskId, gain_percent: u32 },
}

/// The whole queue at one moment. `None` for the inventory while detection has not answered yet.
pub fn plan(policy: &Policy, inventory: Option<&Inventory>, queue: Queue<'_>, now: Timestamp) -> Plan {
    plan_first(policy, inventory, queue, now, usize::MAX)
}

/// The same starts and preempts, with the reasons of the first `limit` that wait and not of all: for who plays through a long
/// queue and reads no more of them.
pub fn plan_first(
    policy: &Policy,
    inventory: Option<&Inventory>,
    queue: Queue<'_>,
    now: Timestamp,
    limit: usize,
) -> Plan {
    let batch = inventory.and_then(|inventory| Batch::of(policy, inventory, queue.waiting, queue.running, now));
    let ranked = order::rank(policy, queue, batch.as_ref(), now);
    let Some(inventory) = inventory else {
        return Plan { waits: explain::all(ranked.take(limit), WaitCause::Detecting), ..Plan::default() };
    };
    let mut pass = Pass::new(policy, inventory, queue, batch.as_ref(), now);
    if let Some(cause) = queue.closed {
        let waits = explain::all(ranked.take(limit), cause.clone());
        return Plan { waits, preempts: pass.preempts, starts: Vec::new() };
    }
    for waiting in ranked {
        pass.serve(waiting);
        if pass.told() >= limit && pass.is_over() {
            break;
        }
    }
    pass.tidy_up();
    pass.plan()
}

/// Memory that is promised but not yet in use on this device and no longer there, with who took it: other programs
/// grew into the grants. `None` while every promise can be kept.
pub fn shortfall(reading: &Reading, running: &[Running]) -> Option<(u64, Vec<MemoryHolder>)> {
    ledger::shortfall(reading, running)
}

/// Bytes of a device that are free by measurement and not promised to any of these.
pub fn free(reading: &Reading, running: &[Running]) -> u64 {
    ledger::free(reading, running)
}
