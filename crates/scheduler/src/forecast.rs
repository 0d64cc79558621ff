//! When what waits will start and end, from the plan run forward on estimates.

use std::{cmp::Reverse, collections::BinaryHeap};

use domain::TaskId;
use jiff::Timestamp;

use crate::{Plan, Policy, Running, Waiting};

/// Expected of one waiting task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    pub task: TaskId,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
}

/// For the first `limit` tasks that wait, in the plan's order, on `devices` devices: each starts when enough of those
/// before it have ended. Blocked ones are left out, because their time is not the devices' to tell.
pub fn forecast(
    policy: &Policy,
    plan: &Plan,
    waiting: &[Waiting],
    running: &[Running],
    devices: usize,
    now: Timestamp,
    limit: usize,
) -> Vec<Forecast> {
    let end = |from: Timestamp, waiting: &Waiting| from.checked_add(policy.length(waiting)).unwrap_or(Timestamp::MAX);
    let by_id = |task: TaskId| waiting.iter().find(|waiting| waiting.task == task);
    let mut free_at: BinaryHeap<Reverse<Timestamp>> = BinaryHeap::new();
    for running in running {
        // One that has outlived its estimate may end at any moment.
        let ends_at = running.ends_at.unwrap_or_else(|| now.checked_add(policy.unknown_length).unwrap_or(now)).max(now);
        free_at.extend(running.grant.devices.iter().map(|_| Reverse(ends_at)));
    }
    for start in &plan.starts {
        let ends_at = by_id(start.task).map_or(now, |waiting| end(now, waiting));
        free_at.extend(start.grant.devices.iter().map(|_| Reverse(ends_at)));
    }
    while free_at.len() < devices {
        free_at.push(Reverse(now));
    }
    let mut forecasts = Vec::new();
    for (task, _) in plan.waits.iter().take(limit) {
        let Some(waiting) = by_id(*task).filter(|waiting| waiting.blocked.is_none()) else { continue };
        let wanted = (waiting.demand.devices.max(1) as usize).min(free_at.len());
        let taken: Vec<Timestamp> = (0..wanted).filter_map(|_| free_at.pop()).map(|Reverse(at)| at).collect();
        let Some(starts_at) = taken.into_iter().max() else { break };
        let ends_at = end(starts_at, waiting);
        free_at.extend((0..wanted).map(|_| Reverse(ends_at)));
        forecasts.push(Forecast { task: *task, starts_at, ends_at });
    }
    forecasts
}
