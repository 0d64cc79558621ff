//! How fast a task trains alone and beside others, from the steps it reports.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use domain::TaskId;
use scheduler::Pace;

/// Fewer steps than this say little about their length.
const STEPS: u64 = 5;

#[derive(Debug, Default)]
pub struct PaceMeter {
    neighbours: BTreeSet<TaskId>,
    /// When it had trained for so many steps, all beside the same neighbours.
    since: Option<(Instant, u64)>,
    /// The newest step, and when it was first seen.
    seen: Option<(Instant, u64)>,
    /// Seconds per step.
    alone: Option<f64>,
}

impl PaceMeter {
    /// Of a training that was measured before, in seconds per step.
    pub fn knowing(alone: Option<f64>) -> PaceMeter {
        PaceMeter { alone, ..PaceMeter::default() }
    }

    /// Seconds per step with its devices to itself.
    pub fn alone(&self) -> Option<f64> {
        self.alone
    }

    /// Takes a look at how far it has come, in steps, and beside whom.
    pub fn look(&mut self, now: Instant, step: u64, neighbours: BTreeSet<TaskId>) {
        if self.neighbours != neighbours || self.since.is_some_and(|(_, first)| step < first) {
            self.neighbours = neighbours;
            (self.since, self.seen) = (None, None);
        }
        if step == 0 || self.seen.is_some_and(|(_, newest)| newest == step) {
            return;
        }
        // The first step with new neighbours began before them.
        self.since = self.since.or(self.seen.map(|_| (now, step)));
        self.seen = Some((now, step));
        if self.neighbours.is_empty() {
            self.alone = self.seconds_per_step().or(self.alone);
        }
    }

    /// Once it has shared its devices for so long.
    pub fn pace(&self, trial: Duration) -> Option<Pace> {
        let (since, _) = self.since?;
        let (newest, _) = self.seen?;
        let judged = !self.neighbours.is_empty() && newest.duration_since(since) >= trial;
        judged.then(|| Some(Pace { alone: self.alone, shared: self.seconds_per_step()? })).flatten()
    }

    fn seconds_per_step(&self) -> Option<f64> {
        let ((since, first), (newest, last)) = (self.since?, self.seen?);
        let steps = last - first;
        (steps >= STEPS).then(|| newest.duration_since(since).as_secs_f64() / steps as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_beside_others_are_compared_with_steps_alone() {
        let (start, trial) = (Instant::now(), Duration::from_secs(20));
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let other = BTreeSet::from([TaskId::new(0, 2)]);
        let mut meter = PaceMeter::default();
        for step in 1..=10 {
            meter.look(at(step), step, BTreeSet::new());
            meter.look(at(step), step, BTreeSet::new());
        }
        assert_eq!(meter.pace(trial), None, "nobody shares its device");
        for step in 0..5 {
            meter.look(at(12 + 3 * step), 11 + step, other.clone());
        }
        assert_eq!(meter.pace(trial), None, "not for long enough");
        for step in 5..12 {
            meter.look(at(12 + 3 * step), 11 + step, other.clone());
        }
        assert_eq!(meter.pace(trial), Some(Pace { alone: Some(1.0), shared: 3.0 }));
    }
}
