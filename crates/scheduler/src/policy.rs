//! What the owner of the machine decides.

use jiff::SignedDuration;

use crate::Waiting;

/// Every factor can be switched off; without any, tasks start in the order in which they came.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Run one task at a time whatever the number of devices, as the first generation did.
    pub one_at_a_time: bool,
    /// Priority classes come first.
    pub priority: bool,
    /// Within a class, tasks come first that would miss their deadline if they started much later.
    pub deadlines: bool,
    /// Within a class, whoever has used less comes first.
    pub fair_share: bool,
    /// Within a user's share, short tasks come first, the more so the less they have waited.
    pub shortest_first: bool,
    /// A task that has waited this long counts as half as long as it is, twice this a third, and so on.
    pub ageing: SignedDuration,
    /// What a task of unknown length counts as.
    pub unknown_length: SignedDuration,
    /// Let later tasks go first where that does not delay the first one that waits (EASY backfilling: Lifka, 1995).
    pub backfill: bool,
    /// Tasks that may train on one GPU at a time if their grants fit beside each other.
    pub tasks_per_gpu: u32,
    /// Leave a GPU alone while other programs use it, instead of using what they leave.
    pub exclusive: bool,
    /// Tasks that share a GPU must get this much done together, relative to one of them alone; where they get less, sharing is
    /// undone.
    pub packing_gain: f64,
    /// `None`: what runs is never interrupted, not even when it runs out of memory otherwise.
    pub preemption: Option<Preemption>,
}

/// When a running task is stopped at a checkpoint for a waiting one.
#[derive(Debug, Clone, PartialEq)]
pub struct Preemption {
    /// Never earlier in an attempt than this.
    pub after: SignedDuration,
    /// Tasks that have run this long make room for those that take less than an eighth of what they still need.
    pub long: SignedDuration,
}

impl Policy {
    /// One task at a time, in the order of arrival.
    pub fn one() -> Policy {
        Policy { one_at_a_time: true, ..Policy::fifo() }
    }

    /// As many as fit in the order of arrival; the first that does not fit holds up the rest.
    pub fn fifo() -> Policy {
        Policy {
            one_at_a_time: false,
            priority: false,
            deadlines: false,
            fair_share: false,
            shortest_first: false,
            backfill: false,
            preemption: None,
            ..Policy::default()
        }
    }

    /// The same with priority classes and backfilling.
    pub fn easy() -> Policy {
        Policy { priority: true, backfill: true, ..Policy::fifo() }
    }

    /// Tasks start in the order in which they came, and nothing is stopped for another.
    pub fn is_in_order(&self) -> bool {
        let sorts = self.priority || self.deadlines || self.fair_share || self.shortest_first;
        !sorts && !self.backfill && self.preemption.is_none()
    }

    /// How long a task counts as running.
    pub(crate) fn length(&self, waiting: &Waiting) -> SignedDuration {
        waiting.expected.unwrap_or(self.unknown_length)
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            one_at_a_time: false,
            priority: true,
            deadlines: true,
            fair_share: true,
            shortest_first: true,
            ageing: SignedDuration::from_hours(4),
            unknown_length: SignedDuration::from_hours(1),
            backfill: true,
            tasks_per_gpu: 3,
            packing_gain: 1.1,
            exclusive: false,
            preemption: Some(Preemption { after: SignedDuration::from_mins(10), long: SignedDuration::from_hours(1) }),
        }
    }
}
