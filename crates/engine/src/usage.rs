//! GPU time that each user has had of late, for fair shares and daily quotas.

use std::collections::{BTreeMap, VecDeque};

use domain::{Allowance, Attempt};
use jiff::{SignedDuration, Timestamp};

/// After so long, used time counts half, in seconds.
const HALF_LIFE: f64 = 24.0 * 3600.0;
/// What is older hardly counts.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(7 * 24);
const DAY: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug, Default)]
pub struct Usage {
    /// GPU-seconds as of `at`, shrinking.
    users: BTreeMap<String, f64>,
    at: Option<Timestamp>,
    /// Attempts that ended within a day, the oldest first.
    day: VecDeque<Ended>,
}

#[derive(Debug)]
struct Ended {
    owner: String,
    started_at: Timestamp,
    ended_at: Timestamp,
    gpus: f64,
}

impl Usage {
    /// Counts what an attempt that has ended took. Attempts come in the order in which they ended.
    pub fn add(&mut self, owner: &str, attempt: &Attempt, ended_at: Timestamp) {
        self.users = self.at(ended_at);
        self.at = Some(ended_at);
        let gpus = attempt.grant.devices.len() as f64;
        let seconds = ended_at.duration_since(attempt.started_at).as_secs_f64().max(0.0);
        *self.users.entry(owner.to_owned()).or_default() += seconds * gpus;
        self.day.retain(|ended| ended_at.duration_since(ended.ended_at) < DAY);
        self.day.push_back(Ended { owner: owner.to_owned(), started_at: attempt.started_at, ended_at, gpus });
    }

    /// GPU-seconds of each user, recent ones counting more.
    pub fn at(&self, now: Timestamp) -> BTreeMap<String, f64> {
        let passed = self.at.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
        let left = 0.5f64.powf(passed / HALF_LIFE);
        self.users.iter().map(|(user, seconds)| (user.clone(), seconds * left)).collect()
    }

    /// The same with what is `held` now, divided by the users' weights.
    pub fn weighted<'a>(
        &self,
        allowances: &BTreeMap<String, Allowance>,
        held: impl Iterator<Item = (&'a str, f64)>,
        now: Timestamp,
    ) -> BTreeMap<String, f64> {
        let mut usage = self.at(now);
        for (user, seconds) in held {
            *usage.entry(user.to_owned()).or_default() += seconds;
        }
        for (user, seconds) in &mut usage {
            *seconds /= allowances.get(user).map_or(1.0, |allowance| allowance.weight.max(1e-3));
        }
        usage
    }

    /// GPU-seconds that ended attempts of this user had in the last 24 hours.
    pub fn last_day(&self, owner: &str, now: Timestamp) -> f64 {
        let from = now.checked_sub(DAY).unwrap_or(Timestamp::MIN);
        let of = |ended: &Ended| {
            let began = ended.started_at.max(from);
            ended.ended_at.duration_since(began).as_secs_f64().max(0.0) * ended.gpus
        };
        self.day.iter().filter(|ended| ended.owner == owner).map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{DeviceGrant, DeviceId, Grant};

    #[test]
    fn what_was_used_a_day_ago_counts_half_and_no_longer_for_the_day_and_what_is_held_now_counts() {
        let at = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let device = DeviceGrant { device: DeviceId("GPU-0".into()), bytes: None };
        let attempt = Attempt { number: 1, grant: Grant { devices: vec![device] }, started_at: at(0), pid: None };
        let mut usage = Usage::default();
        usage.add("ana", &attempt, at(2));
        assert!((usage.at(at(26))["ana"] - 3600.0).abs() < 1e-6);
        assert_eq!(usage.last_day("ana", at(2)), 7200.0);
        assert_eq!(usage.last_day("ana", at(25)), 3600.0, "the first hour is more than a day ago");
        assert_eq!((usage.last_day("ana", at(26)), usage.last_day("ben", at(2))), (0.0, 0.0));
        let weights = BTreeMap::from([("ana".to_owned(), Allowance { weight: 4.0, ..Allowance::default() })]);
        assert!((usage.weighted(&weights, std::iter::empty(), at(2))["ana"] - 1800.0).abs() < 1e-6);
        let held = [("ana", 3600.0), ("ben", 60.0), ("ben", 60.0)];
        let weighted = usage.weighted(&weights, held.into_iter(), at(2));
        assert!((weighted["ana"] - 2700.0).abs() < 1e-6 && (weighted["ben"] - 120.0).abs() < 1e-6, "{weighted:?}");
    }

    #[test]
    fn who_holds_the_gpus_goes_second() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(3);
        let waiting = |number, owner: &str| scheduler::Waiting {
            task: domain::TaskId::new(0, number),
            owner: owner.into(),
            priority: domain::Priority::Normal,
            urgency: 0,
            since: now,
            expected: None,
            deadline: None,
            demand: domain::Demand { devices: 1, memory: None, shares: false },
            blocked: None,
            refused: Vec::new(),
            timed: false,
        };
        let waiting = [waiting(1, "ana"), waiting(2, "ben")];
        let first = |held: Option<(&str, f64)>| {
            let usage = Usage::default().weighted(&BTreeMap::new(), held.into_iter(), now);
            let quotas = BTreeMap::new();
            let queue =
                scheduler::Queue { waiting: &waiting, running: &[], usage: &usage, closed: None, quotas: &quotas };
            scheduler::plan(&scheduler::Policy::default(), None, queue, now).waits[0].0.number
        };
        assert_eq!(first(None), 1);
        assert_eq!(first(Some(("ana", 2.0 * 3600.0))), 2, "none of her attempts has ended");
    }
}
