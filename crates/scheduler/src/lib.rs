//! Decides what starts now and says why the rest waits.
//!
//! Pure: no IO, no clock, no randomness. The daemon and the simulator call the same [`plan`].
//!
//! The stages read one after the other: [`order`] the queue, [`ledger`] what each device has left, [`place`] tasks on
//! it, [`explain`] the rest.

mod explain;
mod ledger;
mod order;
mod place;

use domain::{Demand, DeviceId, Grant, Inventory, MemoryHolder, Reading, TaskId, WaitCause, WaitReason};

use ledger::Ledger;

/// What the owner of the machine decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Tasks that may train on one GPU at a time if their grants fit beside each other.
    pub tasks_per_gpu: u32,
    /// Leave a GPU alone while other programs use it, instead of using what they leave.
    pub exclusive: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { tasks_per_gpu: 3, exclusive: false }
    }
}

/// Everything that wants or holds a device.
#[derive(Debug, Clone, Copy)]
pub struct Queue<'a> {
    pub waiting: &'a [Waiting],
    pub running: &'a [Running],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub task: TaskId,
    pub demand: Demand,
    /// Devices that it was refused on a moment ago, and why: not to be tried in this plan.
    pub refused: Vec<(DeviceId, WaitCause)>,
}

/// An attempt that holds its grant until its last process has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub task: TaskId,
    pub grant: Grant,
    /// Bytes in use of each device of the grant, in its order; `None`: unknown.
    pub used: Vec<Option<u64>>,
}

/// The answer for one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub starts: Vec<Start>,
    /// Every waiting task that is not started, in the order in which they will start.
    pub waits: Vec<(TaskId, WaitReason)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    pub task: TaskId,
    pub grant: Grant,
}

/// First in, first out: the first task that has to wait for memory or a device holds up those behind it, but one that
/// this machine can never run holds up nobody. `None` for the inventory while detection has not answered yet.
pub fn plan(policy: &Policy, inventory: Option<&Inventory>, queue: Queue<'_>) -> Plan {
    let waiting = order::by_creation(queue.waiting);
    let Some(inventory) = inventory else {
        return Plan { starts: Vec::new(), waits: explain::all(&waiting, &WaitCause::Detecting) };
    };
    let mut ledger = Ledger::new(policy, inventory, queue.running);
    let mut starts = Vec::new();
    let mut waits = Vec::new();
    let mut tasks = waiting.iter();
    for waiting in tasks.by_ref() {
        if let Some(grant) = place::on_devices(&ledger, waiting) {
            ledger.promise(waiting.task, &grant);
            starts.push(Start { task: waiting.task, grant });
            continue;
        }
        let cause = explain::cause(&ledger, waiting);
        let never = matches!(cause, WaitCause::TooLarge { .. } | WaitCause::TooManyDevices { .. });
        waits.push((waiting.task, cause));
        if !never {
            break;
        }
    }
    let followers = explain::followers(waits.last(), &tasks.map(|waiting| waiting.task).collect::<Vec<_>>());
    waits.extend(followers);
    Plan { starts, waits: explain::numbered(waits) }
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
