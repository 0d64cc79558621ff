//! When what waits will start and end, from the plan's order run forward on estimates.

use std::collections::{BTreeMap, BTreeSet};

use domain::{TaskId, WaitCause};
use jiff::Timestamp;

use crate::{Plan, Policy, Running, Waiting, explain, preempt};

/// Expected of one waiting task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    pub task: TaskId,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
}

/// No estimate says when a device comes free.
const UNKNOWN: Timestamp = Timestamp::MAX;

/// For the first `limit` tasks that wait, in the plan's order, on `devices` devices: each starts when enough of those
/// before it have ended, or what runs makes room for it. Nothing is said from the first one on that waits for a task of
/// unknown length, nor of tasks of unknown length themselves, nor of those that wait for something else than devices.
pub fn forecast(
    policy: &Policy,
    plan: &Plan,
    waiting: &[Waiting],
    running: &[Running],
    devices: usize,
    now: Timestamp,
    limit: usize,
) -> Vec<Forecast> {
    let first = || plan.waits.iter().take(limit);
    let asked: BTreeSet<TaskId> =
        plan.starts.iter().map(|start| start.task).chain(first().map(|(task, _)| *task)).collect();
    let by_id: BTreeMap<TaskId, &Waiting> =
        waiting.iter().filter(|waiting| asked.contains(&waiting.task)).map(|waiting| (waiting.task, waiting)).collect();
    let end = |from: Timestamp, waiting: &Waiting| {
        waiting.expected.and_then(|expected| from.checked_add(expected).ok()).unwrap_or(UNKNOWN)
    };
    // One at a time takes the machine for a single device.
    let (devices, most) = if policy.one_at_a_time { (1, 1) } else { (devices, usize::MAX) };

    let mut slots: Vec<Slot<'_>> = Vec::new();
    for running in running {
        let end = if running.stopping { now } else { running.ends_at.unwrap_or(UNKNOWN).max(now) };
        let slot = Slot { free_at: end, running: Some(running) };
        slots.extend(std::iter::repeat_n(slot, running.grant.devices.len().min(most)));
    }
    for start in &plan.starts {
        let free_at = by_id.get(&start.task).map_or(UNKNOWN, |waiting| end(now, waiting));
        slots.extend(std::iter::repeat_n(Slot { free_at, running: None }, start.grant.devices.len().min(most)));
    }
    if let Some(idle) = devices.checked_sub(slots.len()) {
        slots.extend(std::iter::repeat_n(Slot { free_at: now, running: None }, idle));
    }
    let mut forecasts = Vec::new();
    for (task, reason) in first() {
        let Some(waiting) = by_id.get(task).filter(|waiting| waiting.blocked.is_none()) else { continue };
        if matches!(*reason.cause, WaitCause::Quota { .. }) || explain::is_for_ever(&reason.cause) {
            continue;
        }
        let wanted = (waiting.demand.devices.max(1) as usize).min(most);
        if wanted > slots.len() {
            continue;
        }
        slots.sort_by_key(|slot| slot.free_for(policy, waiting, now));
        let starts_at = slots[wanted - 1].free_for(policy, waiting, now);
        if starts_at == UNKNOWN {
            break;
        }
        let ends_at = end(starts_at, waiting);
        slots[..wanted].fill(Slot { free_at: ends_at, running: None });
        if ends_at < UNKNOWN {
            forecasts.push(Forecast { task: *task, starts_at, ends_at });
        }
    }
    forecasts
}

/// A device, or a task's part of a shared one.
#[derive(Clone, Copy)]
struct Slot<'a> {
    free_at: Timestamp,
    running: Option<&'a Running>,
}

impl Slot<'_> {
    fn free_for(&self, policy: &Policy, waiting: &Waiting, now: Timestamp) -> Timestamp {
        let yielding = self.running.filter(|_| policy.backfill);
        let yields_at = yielding.and_then(|running| preempt::makes_room_at(policy, running, waiting, now));
        yields_at.map_or(self.free_at, |at| at.min(self.free_at))
    }
}
