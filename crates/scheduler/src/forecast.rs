//! When what waits will start and end, from the plan's order run forward on estimates.

use std::collections::{BTreeMap, BTreeSet};

use domain::{DeviceGrant, Grant, Inventory, TaskId, WaitCause};
use jiff::Timestamp;

use crate::{
    Plan, Policy, Running, Waiting,
    batch::Batch,
    explain,
    ledger::{Account, Ledger},
    preempt, reserve,
};

/// Expected of one waiting task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    pub task: TaskId,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
}

/// No estimate says when a device comes free.
const UNKNOWN: Timestamp = Timestamp::MAX;

/// For the first `limit` tasks that wait, in the plan's order: each starts when enough of those before it have ended, or what
/// runs makes room for it, and other programs keep what they have. Nothing is said from the first one on that waits for a
/// task of unknown length, nor of tasks of unknown length themselves, nor of those for whom no end of ours makes room, nor of
/// those that wait for something else than devices.
pub fn forecast(
    policy: &Policy,
    plan: &Plan,
    inventory: &Inventory,
    waiting: &[Waiting],
    running: &[Running],
    now: Timestamp,
    limit: usize,
) -> Vec<Forecast> {
    let first = || plan.waits.iter().take(limit);
    let asked: BTreeSet<TaskId> =
        plan.starts.iter().map(|start| start.task).chain(first().map(|(task, _)| *task)).collect();
    let by_id: BTreeMap<TaskId, &Waiting> =
        waiting.iter().filter(|waiting| asked.contains(&waiting.task)).map(|waiting| (waiting.task, waiting)).collect();
    let batch = Batch::of(policy, inventory, waiting, running, now);
    let ledger = Ledger::new(policy, inventory, running, batch.as_ref(), now);
    let mut future = Future::new(ledger, running);
    for start in &plan.starts {
        if let Some(waiting) = by_id.get(&start.task) {
            future.ledger.promise(waiting, &start.grant);
            future.expect(waiting.task, end(now, waiting));
        }
    }
    let mut forecasts = Vec::new();
    for (task, reason) in first() {
        let Some(waiting) = by_id.get(task).filter(|waiting| waiting.blocked.is_none()) else { continue };
        if matches!(*reason.cause, WaitCause::Quota { .. }) || explain::is_for_ever(&reason.cause) {
            continue;
        }
        match future.begin(waiting) {
            Some(at) if at == UNKNOWN => break,
            Some(starts_at) => {
                let ends_at = end(starts_at, waiting);
                if ends_at < UNKNOWN {
                    forecasts.push(Forecast { task: *task, starts_at, ends_at });
                }
            }
            None if policy.backfill => {}
            None => break,
        }
    }
    forecasts
}

fn end(from: Timestamp, waiting: &Waiting) -> Timestamp {
    waiting.expected.and_then(|expected| from.checked_add(expected).ok()).unwrap_or(UNKNOWN)
}

/// The devices with the ends of what runs and of those that are expected to start before the next.
struct Future<'a> {
    ledger: Ledger<'a>,
    running: &'a [Running],
    /// Where nobody goes before another: when the last one starts; one at a time: when it ends.
    not_before: Timestamp,
}

impl<'a> Future<'a> {
    fn new(ledger: Ledger<'a>, running: &'a [Running]) -> Future<'a> {
        let now = ledger.now;
        let mut future = Future { ledger, running, not_before: now };
        for running in running {
            let ends_at = if running.stopping { now } else { running.ends_at.unwrap_or(UNKNOWN).max(now) };
            future.expect(running.task, ends_at);
        }
        future
    }

    /// The task ends then, wherever it is.
    fn expect(&mut self, task: TaskId, ends_at: Timestamp) {
        let promises = self.ledger.accounts.iter_mut().flat_map(|account| &mut account.promises);
        promises.filter(|promise| promise.task == task).for_each(|promise| promise.ends_at = ends_at);
        if self.ledger.policy.one_at_a_time {
            self.not_before = self.not_before.max(ends_at);
        }
    }

    /// When the task will have its devices, which it then has. `None`: no end of ours makes room for it.
    fn begin(&mut self, waiting: &Waiting) -> Option<Timestamp> {
        let wanted = waiting.demand.devices.max(1) as usize;
        let seen: Vec<Account<'a>> =
            self.ledger.accounts.iter().map(|account| self.as_seen_by(account, waiting)).collect();
        let mut free: Vec<(Timestamp, usize)> = seen
            .iter()
            .enumerate()
            .filter_map(|(index, account)| Some((self.free_at(account, waiting)?, index)))
            .collect();
        free.sort_unstable();
        let at = free.get(wanted - 1)?.0.max(self.not_before);
        if at == UNKNOWN {
            return Some(UNKNOWN);
        }
        let chosen = &free[..wanted];
        let ends_now =
            |(_, index): &(Timestamp, usize)| seen[*index].promises.iter().any(|promise| promise.ends_at <= at);
        // It could start now by this account and does not: something else is in the way.
        if at <= self.ledger.now && !chosen.iter().any(ends_now) {
            return None;
        }
        for (_, index) in chosen {
            let ended: Vec<TaskId> = seen[*index]
                .promises
                .iter()
                .filter(|promise| promise.ends_at <= at)
                .map(|promise| promise.task)
                .collect();
            for account in &mut self.ledger.accounts {
                account.promises.retain(|promise| !ended.contains(&promise.task));
            }
        }
        let device = |(_, index): &(Timestamp, usize)| {
            let account = &self.ledger.accounts[*index];
            let bytes = waiting.demand.memory.filter(|_| account.is_shared());
            DeviceGrant { device: account.id().clone(), bytes }
        };
        let grant = Grant { devices: chosen.iter().map(device).collect() };
        self.ledger.promise(waiting, &grant);
        self.expect(waiting.task, end(at, waiting));
        if !self.ledger.policy.backfill {
            self.not_before = self.not_before.max(at);
        }
        Some(at)
    }

    /// With what would make room for the task gone by then.
    fn as_seen_by(&self, account: &Account<'a>, waiting: &Waiting) -> Account<'a> {
        let mut seen = account.clone();
        for promise in seen.promises.iter_mut().filter(|_| self.ledger.policy.backfill) {
            let running = self.running.iter().find(|running| running.task == promise.task);
            let yields_at = running.and_then(|running| preempt::makes_room_at(&self.ledger, running, waiting));
            promise.ends_at = yields_at.map_or(promise.ends_at, |at| at.min(promise.ends_at));
        }
        seen
    }

    /// When the device has room for the task; `None`: never, if it depends on us.
    fn free_at(&self, account: &Account<'_>, waiting: &Waiting) -> Option<Timestamp> {
        if waiting.refused.iter().any(|(device, _)| device == account.id()) {
            return None;
        }
        let mut moments: Vec<Timestamp> = account.promises.iter().map(|promise| promise.ends_at).collect();
        moments.push(self.ledger.now);
        moments.sort_unstable();
        moments.into_iter().find(|at| reserve::has_room(&self.ledger, account, waiting, *at))
    }
}
