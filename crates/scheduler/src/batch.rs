//! A queue that is long and to which nobody has added for hours is a batch: what counts now is when all of it is done.

use std::cmp::Reverse;

use domain::{Inventory, TaskId};
use jiff::{SignedDuration, Timestamp};

use crate::{Policy, Running, Waiting};

/// Where somebody has come within this time, more may come: then short tasks first makes the mean wait the least. Without new
/// ones it would keep the longest to the end, when most devices are idle.
const QUIET: SignedDuration = SignedDuration::from_hours(3);
/// A task that takes this part of the time that all work takes counts as one of the last to end: expected lengths are not exact,
/// sharing stretches it, and the more of them there are, the worse they fit at the end.
const LONG: f64 = 0.3;

/// The part of the queue that decides when all is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// What still takes this long ends last whenever it starts: it is not stopped for shorter ones, and nobody joins it.
    pub long: SignedDuration,
    /// Of those that wait, the longest that have room: they start before the others of their share.
    pub first: Vec<TaskId>,
}

impl Batch {
    /// Tasks that take a good part of the time that all work takes, spread over all devices, start first, the longest before
    /// others (Graham, 1969), on three quarters of the devices at most. What wants more than half of the devices runs beside
    /// little else, before or after all this, and makes that time no longer.
    ///
    /// `None` where more may come, or so few wait that they could not fill the other devices.
    pub fn of(
        policy: &Policy,
        inventory: &Inventory,
        waiting: &[Waiting],
        running: &[Running],
        now: Timestamp,
    ) -> Option<Batch> {
        let devices = inventory.devices.iter().filter(|reading| reading.is_usable()).count();
        if !policy.shortest_first || devices == 0 || waiting.len() < 2 * devices {
            return None;
        }
        let last = waiting.iter().map(|waiting| waiting.since).max()?;
        if now.duration_since(last) < QUIET {
            return None;
        }
        let rest = |ends_at: Option<Timestamp>| ends_at.map_or(SignedDuration::ZERO, |at| at.duration_since(now));
        let held = running.iter().map(|running| (rest(running.ends_at), running.grant.devices.len()));
        let wanted = waiting.iter().map(|waiting| (policy.length(waiting), waiting.demand.devices as usize));
        let seconds = |(length, wanted): (SignedDuration, usize)| length.as_secs_f64().max(0.0) * wanted as f64;
        let narrow = |(_, wanted): &(SignedDuration, usize)| *wanted <= (devices / 2).max(1);
        let work: f64 = held.clone().chain(wanted).filter(narrow).map(seconds).sum();
        let long = SignedDuration::try_from_secs_f64(LONG * work / devices as f64).unwrap_or(SignedDuration::MAX);

        let taken: usize = held.filter(|(rest, _)| *rest >= long).map(|(_, devices)| devices).sum();
        let mut room = (devices * 3 / 4).saturating_sub(taken);
        let mut first: Vec<&Waiting> = waiting.iter().filter(|waiting| policy.length(waiting) >= long).collect();
        first.sort_by_key(|waiting| (Reverse(policy.length(waiting)), waiting.task));
        first.retain(|waiting| {
            let wanted = waiting.demand.devices as usize;
            let fits = waiting.blocked.is_none() && wanted <= room;
            room -= if fits { wanted } else { 0 };
            fits
        });
        Some(Batch { long, first: first.into_iter().map(|waiting| waiting.task).collect() })
    }
}
