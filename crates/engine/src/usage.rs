//! GPU time that each user has had of late, for fair shares.

use std::collections::BTreeMap;

use domain::{Attempt, Task};
use jiff::Timestamp;

/// After so long, used time counts half, in seconds.
const HALF_LIFE: f64 = 24.0 * 3600.0;

#[derive(Debug, Default)]
pub struct Usage {
    /// GPU-seconds as of `at`.
    users: BTreeMap<String, f64>,
    at: Option<Timestamp>,
}

impl Usage {
    /// Counts what an attempt that has ended took.
    pub fn add(&mut self, task: &Task, attempt: &Attempt, now: Timestamp) {
        self.users = self.at(now);
        self.at = Some(now);
        let seconds = now.duration_since(attempt.started_at).as_secs_f64().max(0.0);
        *self.users.entry(task.owner.clone()).or_default() += seconds * attempt.grant.devices.len() as f64;
    }

    pub fn at(&self, now: Timestamp) -> BTreeMap<String, f64> {
        let passed = self.at.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
        let left = 0.5f64.powf(passed / HALF_LIFE);
        self.users.iter().map(|(user, seconds)| (user.clone(), seconds * left)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_a_day_ago_counts_half() {
        let usage = Usage { users: [("ana".into(), 3600.0)].into(), at: Some(Timestamp::UNIX_EPOCH) };
        let day_later = Timestamp::from_second(24 * 3600).unwrap();
        assert!((usage.at(day_later)["ana"] - 1800.0).abs() < 1e-9);
    }
}
