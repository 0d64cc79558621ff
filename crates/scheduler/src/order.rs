//! Who comes first: class, urgency by hand, deadline, share, the last to end, expected length with ageing, age.

use jiff::{SignedDuration, Timestamp};

use crate::{Policy, Queue, Waiting, batch::Batch};

/// Shorter tasks count as this long (seconds): so one that is n times as long goes before all that come after it has
/// waited n ageing periods, and nobody waits for ever behind a stream of short ones.
const SHORT: f64 = 600.0;
/// A task is overdue when it has waited twice that, and four weeks at least (seconds): then it counts as of the next class and
/// as its owner's first, so that nobody waits for ever behind others' tasks or a higher class. Sooner would cost dearly:
/// once many are overdue, short tasks wait for long ones again.
const FOUR_WEEKS: f64 = 28.0 * 24.0 * 3600.0;
const AN_HOUR: SignedDuration = SignedDuration::from_hours(1);
/// The first hour of used GPU time makes the first step of a user's share; each step is twice the one before.
const USAGE_STEP: f64 = 3600.0;

/// The order of the fields is the ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rank {
    class: i32,
    /// Chosen by hand: `run next` and reordering.
    urgency: i64,
    /// Its deadline comes near.
    is_due: bool,
    /// Steps of used GPU time, doubling.
    usage: u32,
    ends_last: bool,
    /// Expected seconds, shrunk by waiting.
    length: f64,
}

impl Rank {
    /// The same as two numbers, the least first: a quarter less for a plan with a hundred thousand waiting.
    fn key(self) -> (u128, u64) {
        let class = u128::from(!(self.class as u32 ^ 1 << 31)) << 96;
        let urgency = u128::from(!(self.urgency as u64 ^ 1 << 63)) << 32;
        let due = u128::from(!self.is_due) << 31;
        // Lengths are positive, so their bits are in order.
        (class | urgency | due | u128::from(self.usage << 1) | u128::from(!self.ends_last), self.length.to_bits())
    }
}

/// The queue in the order in which tasks get their chance.
pub fn rank<'a>(policy: &Policy, queue: Queue<'a>, batch: Option<&Batch>, now: Timestamp) -> Ranked<'a> {
    let ends_last = |waiting: &Waiting| batch.is_some_and(|batch| batch.first.contains(&waiting.task));
    let rank = |waiting: &Waiting| Rank { ends_last: ends_last(waiting), ..of(policy, queue, waiting, now) };
    let tasks = queue.waiting.iter().map(|waiting| (rank(waiting).key(), waiting.task.number, waiting)).collect();
    Ranked { tasks, next: 0, sorted: 0 }
}

/// Sorted as far as it is read: who only wants to know what starts does not pay for the order of a hundred thousand that wait.
pub struct Ranked<'a> {
    tasks: Vec<((u128, u64), u64, &'a Waiting)>,
    next: usize,
    sorted: usize,
}

impl Ranked<'_> {
    /// So many are sorted at a time, and ever more: who reads all of them pays little more than for one sort.
    const STEP: usize = 128;

    fn sort_more(&mut self) {
        let rest = &mut self.tasks[self.sorted..];
        let step = rest.len().min(Self::STEP.max(self.sorted * 8));
        let key = |(key, number, _): &((u128, u64), u64, &Waiting)| (*key, *number);
        if step < rest.len() {
            rest.select_nth_unstable_by_key(step, key);
        }
        rest[..step].sort_unstable_by_key(key);
        self.sorted += step;
    }
}

impl<'a> Iterator for Ranked<'a> {
    type Item = &'a Waiting;

    fn next(&mut self) -> Option<&'a Waiting> {
        if self.next == self.sorted {
            self.sort_more();
        }
        let (.., waiting) = self.tasks.get(self.next)?;
        self.next += 1;
        Some(waiting)
    }
}

fn of(policy: &Policy, queue: Queue<'_>, waiting: &Waiting, now: Timestamp) -> Rank {
    let waited = now.duration_since(waiting.since).as_secs_f64().max(0.0);
    let ageing = policy.ageing.as_secs_f64().max(1.0);
    let length = policy.length(waiting).as_secs_f64().max(SHORT);
    let overdue = (waited / (2.0 * ageing * length / SHORT).max(FOUR_WEEKS)) as i32;
    let usage = queue.usage.get(&waiting.owner).copied().unwrap_or(0.0).max(0.0);
    Rank {
        class: if policy.priority { waiting.priority as i32 + overdue } else { 0 },
        urgency: waiting.urgency,
        is_due: policy.deadlines && is_due(policy, waiting, now),
        usage: if policy.fair_share && overdue == 0 { (1.0 + usage / USAGE_STEP).log2() as u32 } else { 0 },
        ends_last: false,
        length: if policy.shortest_first { length / (1.0 + waited / ageing) } else { 0.0 },
    }
}

/// From some time before the latest start, because others have to end first and lengths are not exact: half the length, an
/// hour at least. Not after the deadline: what is missed is no reason to hurry.
fn is_due(policy: &Policy, waiting: &Waiting, now: Timestamp) -> bool {
    let Some(deadline) = waiting.deadline else { return false };
    let (rest, length) = (deadline.duration_since(now), policy.length(waiting));
    let early = (length / 2).max(AN_HOUR);
    rest.is_positive() && rest <= length.saturating_add(early)
}
