//! When what waits will start and end, from the plan's order run forward on estimates.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use domain::{TaskId, WaitCause};
use jiff::Timestamp;

use crate::{Plan, Policy, Running, Waiting, explain};

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
/// before it have ended. Nothing is said from the first one on that waits for a task of unknown length, nor of tasks of
/// unknown length themselves, nor of those that wait for something else than devices.
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

    let mut free_at: BinaryHeap<Reverse<Timestamp>> = BinaryHeap::new();
    for running in running {
        let ends_at = running.ends_at.unwrap_or(UNKNOWN).max(now);
        free_at.extend((0..running.grant.devices.len().min(most)).map(|_| Reverse(ends_at)));
    }
    for start in &plan.starts {
        let ends_at = by_id.get(&start.task).map_or(UNKNOWN, |waiting| end(now, waiting));
        free_at.extend((0..start.grant.devices.len().min(most)).map(|_| Reverse(ends_at)));
    }
    while free_at.len() < devices {
        free_at.push(Reverse(now));
    }
    let mut forecasts = Vec::new();
    for (task, reason) in first() {
        let Some(waiting) = by_id.get(task).filter(|waiting| waiting.blocked.is_none()) else { continue };
        if matches!(*reason.cause, WaitCause::Quota { .. }) || explain::is_for_ever(&reason.cause) {
            continue;
        }
        let wanted = (waiting.demand.devices.max(1) as usize).min(most);
        if wanted > free_at.len() {
            continue;
        }
        let taken: Vec<Timestamp> = (0..wanted).filter_map(|_| free_at.pop()).map(|Reverse(at)| at).collect();
        let Some(starts_at) = taken.into_iter().max().filter(|at| *at < UNKNOWN) else { break };
        let ends_at = end(starts_at, waiting);
        free_at.extend((0..wanted).map(|_| Reverse(ends_at)));
        if ends_at < UNKNOWN {
            forecasts.push(Forecast { task: *task, starts_at, ends_at });
        }
    }
    forecasts
}
