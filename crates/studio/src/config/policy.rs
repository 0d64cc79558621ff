//! In which order tasks start, as config.toml and the command line name it.

use engine::Policy;
use serde::Deserialize;

/// A policy of the scheduler by its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum PolicyName {
    /// One task at a time, whatever the number of GPUs.
    One,
    /// In the order of arrival; the first that does not fit holds up the rest.
    Fifo,
    /// The same with priorities and backfilling.
    Easy,
    /// Priorities, fair shares, short tasks first with ageing, backfilling, packing, pre-emption.
    #[default]
    Full,
}

/// What a policy can do without. (Packing goes with `tasks_per_gpu = 1`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    Priority,
    Deadlines,
    FairShare,
    ShortestFirst,
    Backfill,
    Preemption,
}

impl PolicyName {
    pub fn build(self) -> Policy {
        match self {
            PolicyName::One => Policy::one(),
            PolicyName::Fifo => Policy::fifo(),
            PolicyName::Easy => Policy::easy(),
            PolicyName::Full => Policy::default(),
        }
    }
}

impl Factor {
    pub fn leave_out(self, policy: &mut Policy) {
        match self {
            Factor::Priority => policy.priority = false,
            Factor::Deadlines => policy.deadlines = false,
            Factor::FairShare => policy.fair_share = false,
            Factor::ShortestFirst => policy.shortest_first = false,
            Factor::Backfill => policy.backfill = false,
            Factor::Preemption => policy.preemption = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_any_factor_tasks_start_in_the_order_in_which_they_came() {
        use Factor::{Backfill, Deadlines, FairShare, Preemption, Priority, ShortestFirst};
        let mut policy = PolicyName::Full.build();
        for factor in [Priority, Deadlines, FairShare, ShortestFirst, Backfill, Preemption] {
            let before = policy.clone();
            factor.leave_out(&mut policy);
            assert_ne!(policy, before, "{factor:?}");
        }
        assert_eq!(policy, PolicyName::Fifo.build());
    }
}
