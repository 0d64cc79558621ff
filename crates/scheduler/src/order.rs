//! Who comes first: class, the overdue, share, expected length with ageing, age.

use std::cmp::Ordering;

use jiff::Timestamp;

use crate::{Policy, Queue, Waiting};

/// A task is overdue when it has waited so many ageing periods (two months), and so many times its own length: then it
/// counts as of the next class and goes first there, so that nobody waits for ever behind a stream of others. Sooner
/// would cost dearly: once many are overdue, short tasks wait for long ones again.
const PATIENCE: (f64, f64) = (360.0, 10.0);
/// The first hour of used GPU time makes the first step of a user's share; each step is twice the one before.
const USAGE_STEP: f64 = 3600.0;

/// The order of the fields is the ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rank {
    class: i32,
    /// Chosen by hand: `run next` and reordering.
    urgency: i64,
    overdue: bool,
    /// Steps of used GPU time, doubling.
    usage: u32,
    /// Expected seconds, shrunk by waiting.
    length: f64,
}

impl Rank {
    fn cmp(&self, other: &Rank) -> Ordering {
        (other.class.cmp(&self.class))
            .then(other.urgency.cmp(&self.urgency))
            .then(other.overdue.cmp(&self.overdue))
            .then(self.usage.cmp(&other.usage))
            .then(self.length.total_cmp(&other.length))
    }
}

/// The queue in the order in which tasks get their chance.
pub fn rank<'a>(policy: &Policy, queue: Queue<'a>, now: Timestamp) -> Vec<&'a Waiting> {
    let mut ranked: Vec<(Rank, &Waiting)> =
        queue.waiting.iter().map(|waiting| (of(policy, queue, waiting, now), waiting)).collect();
    ranked.sort_unstable_by(|(a, first), (b, second)| a.cmp(b).then(first.task.cmp(&second.task)));
    ranked.into_iter().map(|(_, waiting)| waiting).collect()
}

fn of(policy: &Policy, queue: Queue<'_>, waiting: &Waiting, now: Timestamp) -> Rank {
    let waited = now.duration_since(waiting.since).as_secs_f64().max(0.0);
    let ageing = policy.ageing.as_secs_f64().max(1.0);
    let expected = waiting.expected.unwrap_or(policy.unknown_length).as_secs_f64().max(1.0);
    let patience = (PATIENCE.0 * ageing).max(PATIENCE.1 * expected);
    let usage = queue.usage.get(&waiting.owner).copied().unwrap_or(0.0).max(0.0);
    let overdue = policy.shortest_first && waited >= patience;
    Rank {
        class: if policy.priority { waiting.priority as i32 + i32::from(waited >= patience) } else { 0 },
        urgency: waiting.urgency,
        overdue,
        usage: if policy.fair_share && !overdue { (1.0 + usage / USAGE_STEP).log2() as u32 } else { 0 },
        length: if policy.shortest_first && !overdue { expected / (1.0 + waited / ageing) } else { 0.0 },
    }
}
