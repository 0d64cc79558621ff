//! Services that take back memory which was promised to tasks.

use std::cmp::Reverse;

use crate::{
    Preempt, PreemptReason, Running,
    ledger::{Account, Ledger, Promise},
};

/// The fewest tasks whose end lets every other promise on their devices be kept, the youngest of them. Neither the age of
/// the attempt nor its length protects it: the alternative is that it runs out of memory.
pub fn for_services(ledger: &Ledger<'_>, running: &[Running]) -> Vec<Preempt> {
    if ledger.policy.preemption.is_none() {
        return Vec::new();
    }
    let mut leaving = ledger.leaving.clone();
    let mut stopped = Vec::new();
    for account in &ledger.accounts {
        let account = account.without(&leaving);
        let Some((pid, missing)) = taken_back(&account) else { continue };
        for victim in victims(&account, running, missing) {
            leaving.push(victim.task);
            stopped.push(Preempt { task: victim.task, why: PreemptReason::Reclaimed { pid } });
        }
    }
    stopped
}

/// The service that has most of what is not ours, and how many bytes of promises cannot be kept. `None` if all can be, or if
/// another program has more than any service: nobody takes back what it never left.
fn taken_back(account: &Account<'_>) -> Option<(u32, u64)> {
    let missing = account.shortfall()?;
    let foreign = account.reading.processes.iter().filter(|process| process.task.is_none());
    let largest = foreign.max_by_key(|process| (process.bytes, Reverse(process.pid)))?;
    largest.service.is_some().then_some((largest.pid, missing))
}

/// Those of them that can go on later and bring the most back are few enough; of sets equally small, the one with the youngest.
/// If even all are too little, those that would run out of memory themselves.
fn victims<'a>(account: &Account<'_>, running: &'a [Running], missing: u64) -> Vec<&'a Running> {
    let promise = |running: &Running| account.promises.iter().find(|promise| promise.task == running.task);
    // What is in use comes free, and what is not is no longer promised.
    let brings = |promise: &Promise| promise.used.unwrap_or(0) + promise.unused();
    let mut here: Vec<(&Running, &Promise)> = running
        .iter()
        .filter(|running| running.loss.is_some())
        .filter_map(|running| Some((running, promise(running)?)))
        .collect();
    here.sort_by_key(|(running, _)| Reverse((running.started_at, running.task)));
    let Some(count) = (1..=here.len()).find(|count| most(here.iter().map(|(_, p)| brings(p)), *count) >= missing)
    else {
        return here.into_iter().filter(|(_, promise)| promise.unused() > 0).map(|(running, _)| running).collect();
    };
    let mut stopped = Vec::new();
    let mut left = missing;
    for (index, (running, promise)) in here.iter().enumerate() {
        let others = here[index + 1..].iter().map(|(_, promise)| brings(promise));
        let more = count - stopped.len();
        // The youngest that leaves it possible to do with so few.
        if more > 0 && brings(promise) + most(others, more - 1) >= left {
            stopped.push(*running);
            left = left.saturating_sub(brings(promise));
        }
    }
    stopped
}

/// The sum of the `count` largest.
fn most(bytes: impl Iterator<Item = u64>, count: usize) -> u64 {
    let mut bytes: Vec<u64> = bytes.collect();
    bytes.sort_unstable_by_key(|bytes| Reverse(*bytes));
    bytes.iter().take(count).sum()
}
