//! Who comes first: class, share, expected length with ageing, age.

use std::cmp::Ordering;

use jiff::Timestamp;

use crate::{Policy, Queue, Waiting};

/// After so many ageing periods a task goes before all of its class: nobody waits for ever behind a stream of short ones.
const PATIENCE: f64 = 18.0;
/// And after as many again it counts as of the next class.
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
    let ages = waited / policy.ageing.as_secs_f64().max(1.0);
    let expected = waiting.expected.unwrap_or(policy.unknown_length).as_secs_f64().max(1.0);
    let usage = queue.usage.get(&waiting.owner).copied().unwrap_or(0.0).max(0.0);
    let overdue = policy.shortest_first && ages >= PATIENCE;
    Rank {
        class: if policy.priority { waiting.priority as i32 + i32::from(ages >= 2.0 * PATIENCE) } else { 0 },
        urgency: waiting.urgency,
        overdue,
        usage: if policy.fair_share && !overdue { (1.0 + usage / USAGE_STEP).log2() as u32 } else { 0 },
        length: if policy.shortest_first && !overdue { expected / (1.0 + ages) } else { 0.0 },
    }
}
