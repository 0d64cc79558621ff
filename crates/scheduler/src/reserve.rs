//! Devices kept for the first task that does not fit, at the earliest moment at which it will (EASY backfilling).

use std::cmp::Reverse;

use domain::{TaskId, WaitCause};
use jiff::Timestamp;

use crate::{
    Waiting,
    ledger::{Account, Least, Ledger, Promise},
    place,
};

/// The promise that the first waiting task is not delayed by those behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reservation {
    pub task: TaskId,
    /// When enough of what runs now has ended.
    pub at: Timestamp,
    /// By the ledger's index.
    devices: Vec<Kept>,
}

#[derive(Debug, Clone, PartialEq)]
struct Kept {
    index: usize,
    /// Bytes that will be left beside the task; `None`: it gets the device to itself.
    spare: Option<u64>,
}

/// `None` where no end would make room, because other programs have it: then there is nothing to be delayed.
pub fn for_first(ledger: &Ledger<'_>, waiting: &Waiting) -> Option<Reservation> {
    let end = |promise: &Promise| promise.end(ledger.now);
    let mut ends: Vec<Timestamp> = ledger.accounts.iter().flat_map(|account| &account.promises).map(end).collect();
    ends.sort_unstable();
    ends.dedup();
    ends.into_iter().find_map(|at| {
        let mut roomy: Vec<(usize, &Account<'_>)> =
            ledger.accounts.iter().enumerate().filter(|(_, account)| has_room(ledger, account, waiting, at)).collect();
        let wanted = waiting.demand.devices.max(1) as usize;
        if roomy.len() < wanted {
            return None;
        }
        // Those that come free last: until then the others are anybody's, whatever starts on them and however long it takes.
        roomy.sort_by_key(|(index, account)| {
            (account.left_at(at), Reverse(account.free_from(at, ledger.now)), account.allocatable(), *index)
        });
        roomy.truncate(wanted);
        let kept = |(index, account): (usize, &Account<'_>)| {
            let needed = waiting.demand.memory.filter(|_| ledger.shares(waiting) && account.is_shared());
            Kept { index, spare: needed.map(|needed| account.free_at(at).saturating_sub(needed)) }
        };
        Some(Reservation { task: waiting.task, at, devices: roomy.into_iter().map(kept).collect() })
    })
}

/// The task fits when what will have ended by then has, and other programs keep what they have.
pub fn has_room(ledger: &Ledger<'_>, account: &Account<'_>, waiting: &Waiting, at: Timestamp) -> bool {
    let left = account.left_at(at);
    place::can_ever(account, waiting)
        && !account.is_left_alone(ledger.policy)
        && match waiting.demand.memory.filter(|_| account.is_shared()) {
            Some(bytes) => {
                let most = ledger.policy.tasks_per_gpu.max(1) as usize;
                let beside = left == 0 || (ledger.shares(waiting) && left < most && account.shares_at(at));
                beside && account.free_at(at) >= bytes
            }
            None => left == 0 && account.is_roomy_without_ours(),
        }
}

impl Reservation {
    /// The task may use this device now without delaying the one that has the reservation: it is over by then, or there
    /// is room for both.
    pub fn leaves(&self, index: usize, ledger: &Ledger<'_>, waiting: &Waiting) -> bool {
        let Some(kept) = self.devices.iter().find(|kept| kept.index == index) else { return true };
        let account = &ledger.accounts[index];
        let ends_in_time = waiting.expected.is_some() && ledger.end_of(waiting) <= self.at;
        ends_in_time
            || match (kept.spare, waiting.demand.memory) {
                (Some(spare), Some(bytes)) => {
                    // Newcomers of this very plan have taken of it already.
                    let new: u64 =
                        account.promises.iter().filter(|promise| promise.is_new).filter_map(|p| p.granted).sum();
                    let most = ledger.policy.tasks_per_gpu.max(1) as usize;
                    ledger.shares(waiting) && bytes + new <= spare && account.left_at(self.at) + 2 <= most
                }
                _ => false,
            }
    }

    /// Nobody who waits may use this device, one of so many with room.
    pub fn closes(&self, index: usize, ledger: &Ledger<'_>, least: &Least, open: usize) -> bool {
        let end = |length| ledger.now.checked_add(length).unwrap_or(Timestamp::MAX);
        let ends_in_time = least.length(open).is_some_and(|length| end(length) <= self.at);
        let is_too_small = |kept: &Kept| kept.spare.is_none_or(|spare| least.bytes.is_none_or(|bytes| bytes > spare));
        !ends_in_time && self.devices.iter().any(|kept| kept.index == index && is_too_small(kept))
    }

    /// What those wait for whom it keeps from starting.
    pub fn cause(&self) -> WaitCause {
        WaitCause::Reserved { task: self.task, devices: self.devices.len() as u32, at: self.at }
    }
}
