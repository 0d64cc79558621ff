//! Which running tasks make room for the first that waits.

use std::cmp::Reverse;

use domain::{Demand, DeviceGrant, DeviceId, Priority};
use jiff::{SignedDuration, Timestamp};

use crate::{
    Preempt, PreemptReason, Running, Waiting,
    ledger::{Account, Ledger},
    place,
    quota::Quotas,
};

/// A long task makes room for those that take less than this part of what it still needs.
const MUCH_SHORTER: i32 = 8;
/// A move costs a checkpoint and loading model and data again: not for less than this.
const WORTH_A_MOVE: SignedDuration = SignedDuration::from_mins(30);

/// The cheapest victims whose devices, all at once, would let the task start: none if even all of them would not do, or
/// if what is being stopped already does.
pub fn in_favour_of(ledger: &Ledger<'_>, running: &[Running], waiting: &Waiting) -> Vec<Preempt> {
    let may_stop = |running: &&Running| {
        !ledger.leaving.contains(&running.task) && makes_room_at(ledger, running, waiting) == Some(ledger.now)
    };
    let victims: Vec<&Running> = running.iter().filter(may_stop).collect();
    let mut options: Vec<(usize, Vec<&Running>)> = ledger
        .accounts
        .iter()
        .enumerate()
        .filter_map(|(index, account)| Some((index, make_room(ledger, account, &victims, waiting)?)))
        .collect();
    // Where all lose alike, the one that needs longest still.
    options.sort_by_key(|(index, stopped)| {
        let class = stopped.iter().map(|running| class(running, waiting)).max();
        let loss: SignedDuration = stopped.iter().filter_map(|running| running.loss).sum();
        let end = stopped.iter().filter_map(|running| running.ends_at).min();
        (class, loss, Reverse(end), *index)
    });
    let wanted = waiting.demand.devices.max(1) as usize;
    if options.len() < wanted {
        return Vec::new();
    }
    let mut stopped: Vec<&Running> = options.into_iter().take(wanted).flat_map(|(_, stopped)| stopped).collect();
    stopped.sort_unstable_by_key(|running| running.task);
    stopped.dedup_by_key(|running| running.task);
    // One that has several devices may make room on all of them.
    let stopped = needed(stopped, waiting, |stopped| {
        ledger.accounts.iter().filter(|account| has_room(ledger, account, stopped, waiting)).count() >= wanted
    });
    stopped
        .into_iter()
        .map(|running| Preempt { task: running.task, why: PreemptReason::InFavourOf(waiting.task) })
        .collect()
}

/// For an urgent task those of the lowest class go first; for others only their loss counts.
fn class(running: &Running, waiting: &Waiting) -> Option<Priority> {
    (waiting.priority == Priority::Urgent).then_some(running.priority)
}

/// Without those whom it does not take, the dearest left out first.
fn needed<'a>(
    mut stopped: Vec<&'a Running>,
    waiting: &Waiting,
    is_enough: impl Fn(&[&'a Running]) -> bool,
) -> Vec<&'a Running> {
    let mut dearest = stopped.clone();
    dearest.sort_by_key(|running| Reverse((class(running, waiting), running.loss, running.task)));
    for running in dearest {
        let fewer: Vec<&Running> = stopped.iter().filter(|other| other.task != running.task).copied().collect();
        if is_enough(&fewer) {
            stopped = fewer;
        }
    }
    stopped
}

fn has_room(ledger: &Ledger<'_>, account: &Account<'_>, stopped: &[&Running], waiting: &Waiting) -> bool {
    let tasks: Vec<_> = stopped.iter().map(|running| running.task).chain(ledger.leaving.iter().copied()).collect();
    place::fits(ledger, &account.without(&tasks), waiting)
}

/// From when on the running task makes room for the waiting one; `None`: not at all.
pub fn makes_room_at(ledger: &Ledger<'_>, running: &Running, waiting: &Waiting) -> Option<Timestamp> {
    let Ledger { policy, now, .. } = *ledger;
    let rules = policy.preemption.as_ref().filter(|_| running.loss.is_some() && !running.stopping)?;
    let once_it_ran = |least| Some(running.started_at.checked_add(least).ok()?.max(now));
    if waiting.priority == Priority::Urgent && running.priority < Priority::Urgent {
        return once_it_ran(rules.after);
    }
    let at = once_it_ran(rules.long.max(rules.after))?;
    let rest = running.ends_at.filter(|ends_at| !ledger.ends_last(*ends_at))?.duration_since(at);
    // A guess is no reason to stop anybody.
    let is_worth_it = running.priority <= waiting.priority && waiting.expected?.saturating_mul(MUCH_SHORTER) < rest;
    is_worth_it.then_some(at)
}

/// The victims on this device that have to go, those that lose least; empty if it has room as it is.
fn make_room<'a>(
    ledger: &Ledger<'_>,
    account: &Account<'_>,
    victims: &[&'a Running],
    waiting: &Waiting,
) -> Option<Vec<&'a Running>> {
    let mut here: Vec<&Running> = victims
        .iter()
        .filter(|victim| victim.grant.devices.iter().any(|granted| granted.device == *account.id()))
        .copied()
        .collect();
    here.sort_by_key(|victim| (class(victim, waiting), victim.loss, victim.task));
    let is_enough = |stopped: &[&Running]| has_room(ledger, account, stopped, waiting);
    let enough = (0..=here.len()).map(|count| &here[..count]).find(|stopped| is_enough(stopped))?;
    Some(needed(enough.to_vec(), waiting, is_enough))
}

/// With nobody waiting for a device, tasks that share a GPU move to one that is idle, the youngest first: each its own move, by way of
/// a checkpoint and the queue.
pub fn to_spread(ledger: &Ledger<'_>, quotas: &Quotas<'_>, running: &[Running]) -> Vec<Preempt> {
    let Some(rules) = ledger.policy.preemption.as_ref().filter(|_| ledger.leaving.is_empty()) else {
        return Vec::new();
    };
    let idle = ledger.accounts.iter().filter(|account| account.promises.is_empty() && account.reading.is_usable());
    let mut crowded: Vec<&Running> = running
        .iter()
        .filter(|running| {
            let [granted] = &running.grant.devices[..] else { return false };
            let account = ledger.accounts.iter().find(|account| *account.id() == granted.device);
            let rest = running.ends_at.map(|ends_at| ends_at.duration_since(ledger.now));
            account.is_some_and(|account| account.present() > 1)
                && running.loss.is_some()
                && quotas.let_back(&running.owner)
                && ledger.now.duration_since(running.started_at) >= rules.after
                && rest.is_some_and(|rest| rest >= WORTH_A_MOVE)
        })
        .collect();
    crowded.sort_by_key(|running| (Reverse(running.started_at), running.task));
    let mut moved: Vec<Preempt> = Vec::new();
    let mut left: Vec<(&DeviceId, usize)> = ledger.accounts.iter().map(|a| (a.id(), a.present())).collect();
    for account in idle {
        let mover = crowded.iter().find(|running| {
            let granted = &running.grant.devices[0];
            let fits = place::fits(ledger, account, &again(running, granted));
            let is_crowded = left.iter().any(|(id, present)| **id == granted.device && *present > 1);
            fits && is_crowded && !moved.iter().any(|preempt| preempt.task == running.task)
        });
        if let Some(running) = mover {
            let device = &running.grant.devices[0].device;
            left.iter_mut().filter(|(id, _)| *id == device).for_each(|(_, present)| *present -= 1);
            moved.push(Preempt { task: running.task, why: PreemptReason::ToMove });
        }
    }
    moved
}

/// As it will stand in the queue after a checkpoint.
fn again(running: &Running, granted: &DeviceGrant) -> Waiting {
    Waiting {
        task: running.task,
        owner: running.owner.clone(),
        priority: running.priority,
        urgency: 0,
        since: running.started_at,
        expected: None,
        deadline: None,
        demand: Demand { devices: 1, memory: granted.bytes, shares: running.shares },
        blocked: None,
        refused: Vec::new(),
        timed: false,
    }
}
