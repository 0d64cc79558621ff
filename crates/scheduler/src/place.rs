use std::cmp::Reverse;

use domain::{DeviceGrant, Grant};

use crate::{
    Waiting,
    ledger::{Account, Ledger},
};

/// The devices for one task, all of them or none.
pub fn on_devices(ledger: &Ledger<'_>, waiting: &Waiting) -> Option<Grant> {
    let mut fitting: Vec<_> =
        ledger.accounts.iter().enumerate().filter(|(_, account)| fits(ledger, account, waiting)).collect();
    // A GPU to itself before a shared one, the smallest that is large enough, the one with the least to spare.
    fitting.sort_by_key(|(index, account)| {
        (account.promises.len(), account.allocatable(), account.free(), Reverse(account.is_shared()), *index)
    });
    let wanted = waiting.demand.devices.max(1) as usize;
    if fitting.len() < wanted {
        return None;
    }
    let mut chosen = fitting;
    chosen.truncate(wanted);
    chosen.sort_by_key(|(index, _)| *index);
    let grant = |account: &Account<'_>| DeviceGrant {
        device: account.id().clone(),
        bytes: waiting.demand.memory.filter(|_| account.is_shared()),
    };
    Some(Grant { devices: chosen.into_iter().map(|(_, account)| grant(account)).collect() })
}

pub fn fits(ledger: &Ledger<'_>, account: &Account<'_>, waiting: &Waiting) -> bool {
    let policy = ledger.policy;
    can_ever(account, waiting)
        && !account.is_taken(policy)
        && !account.is_left_alone(policy)
        && !waiting.refused.iter().any(|(device, _)| device == account.id())
        && match waiting.demand.memory {
            Some(bytes) => !account.is_shared() || account.free() >= bytes,
            None => account.promises.is_empty() && account.is_mostly_free(),
        }
}

/// The device would do if nobody else had anything on it.
pub fn can_ever(account: &Account<'_>, waiting: &Waiting) -> bool {
    let large_enough = !account.is_shared() || waiting.demand.memory.is_none_or(|bytes| bytes <= account.allocatable());
    // A program sees one MIG instance at most.
    let combinable = waiting.demand.devices <= 1 || account.reading.device.mig.is_none();
    account.reading.is_usable() && large_enough && combinable
}
