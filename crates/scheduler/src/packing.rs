//! Whether tasks that share a GPU get more done together than one after the other.

use domain::TaskId;

use crate::{
    Preempt, PreemptReason, Running,
    ledger::{Account, Ledger, Promise},
};

/// The youngest of those that get too little done together. Who comes or goes changes the pace of all beside it, so nobody is
/// judged beside one of those, and one leaves at a time. A gang is judged on each of its GPUs by itself. They have been
/// measured for some minutes, so the age of the attempt does not protect it.
pub fn not_paying(ledger: &Ledger<'_>, running: &[Running]) -> Vec<Preempt> {
    if ledger.policy.preemption.is_none() {
        return Vec::new();
    }
    let comes = |promise: &Promise| promise.is_new && !promise.is_kept;
    let changes = |account: &&Account<'_>| account.promises.iter().any(|promise| comes(promise) || promise.is_leaving);
    let changing = ledger.accounts.iter().filter(changes).flat_map(|account| &account.promises);
    let mut unsettled: Vec<TaskId> = changing.map(|promise| promise.task).collect();
    let mut stopped = Vec::new();
    for account in &ledger.accounts {
        if account.promises.iter().any(|promise| unsettled.contains(&promise.task)) {
            continue;
        }
        if let Some(preempt) = victim(ledger.policy.packing_gain, &here(account, running)) {
            unsettled.extend(account.promises.iter().map(|promise| promise.task));
            stopped.push(preempt);
        }
    }
    stopped
}

fn here<'a>(account: &Account<'_>, running: &'a [Running]) -> Vec<&'a Running> {
    let is_here = |running: &&Running| running.grant.devices.iter().any(|granted| granted.device == *account.id());
    running.iter().filter(is_here).collect()
}

fn victim(least: f64, sharing: &[&Running]) -> Option<Preempt> {
    let gain = joint_gain(sharing).filter(|gain| *gain < least)?;
    let age = |running: &&&Running| (running.started_at, running.task);
    let task: TaskId = sharing.iter().filter(|running| running.loss.is_some()).max_by_key(age)?.task;
    let with = sharing.iter().filter(|running| running.task != task).min_by_key(age)?.task;
    Some(Preempt { task, why: PreemptReason::NotPaying { with, gain_percent: (gain * 100.0).round() as u32 } })
}

/// What they get done together, relative to one of them alone: the sum of their speeds, each relative to its own alone. One
/// that was never measured alone counts like the mean of the others. `None` for one task, before all were measured
/// together, and if none was measured alone.
fn joint_gain(sharing: &[&Running]) -> Option<f64> {
    let paces: Vec<_> = sharing.iter().map(|running| running.pace).collect::<Option<_>>()?;
    let speeds: Vec<f64> = paces.iter().filter_map(|pace| Some(pace.alone? / pace.shared)).collect();
    if sharing.len() < 2 || speeds.is_empty() {
        return None;
    }
    let mean = speeds.iter().sum::<f64>() / speeds.len() as f64;
    Some(mean * sharing.len() as f64)
}
