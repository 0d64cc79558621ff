//! Decides what starts now and says why the rest waits.
//!
//! Pure: no IO, no clock, no randomness. The daemon and the simulator call the same [`plan`].
//!
//! The stages read one after the other: [`order`] the queue, [`place`] its head on free devices, [`explain`] the rest.

mod explain;
mod order;
mod place;

use domain::{Grant, Inventory, TaskId, WaitReason};

/// Everything that wants or holds a device.
#[derive(Debug, Clone, Copy)]
pub struct Queue<'a> {
    pub waiting: &'a [TaskId],
    pub running: &'a [Running],
}

/// An attempt that holds its grant until its last process has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub task: TaskId,
    pub grant: Grant,
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

/// First in, first out; one task per device. `None` for the inventory while detection has not answered yet.
pub fn plan(inventory: Option<&Inventory>, queue: Queue<'_>) -> Plan {
    let waiting = order::by_creation(queue.waiting);
    let starts = place::on_free_devices(inventory, queue.running, &waiting);
    let waits = explain::the_rest(inventory, queue.running, &starts, &waiting[starts.len()..]);
    Plan { starts, waits }
}
