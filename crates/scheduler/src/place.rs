//! Devices for one task, now.

use std::collections::BTreeMap;

use domain::{Device, DeviceGrant, Grant};

use crate::{
    Waiting,
    ledger::{Account, Ledger},
    reserve::Reservation,
};

/// All devices it needs or none. With a reservation, only where it does not delay the task that has it.
pub fn on_devices(ledger: &Ledger<'_>, reservation: Option<&Reservation>, waiting: &Waiting) -> Option<Grant> {
    let wanted = waiting.demand.devices.max(1) as usize;
    let free = |(index, account): &Candidate<'_>| {
        fits(ledger, account, waiting) && reservation.is_none_or(|kept| kept.leaves(*index, ledger, waiting))
    };
    let mut fitting: Vec<Candidate<'_>> = ledger.accounts.iter().enumerate().filter(free).collect();
    if fitting.len() < wanted {
        return None;
    }
    // A GPU to itself before a shared one, the smallest that is large enough, the one with the least to spare.
    fitting.sort_by_key(|(index, account)| (account.promises.len(), account.allocatable(), account.free(), *index));
    let mut chosen = if wanted > 1 { alike(&fitting, wanted) } else { fitting };
    chosen.truncate(wanted);
    chosen.sort_by_key(|(index, _)| *index);
    let grant = |account: &Account<'_>| DeviceGrant {
        device: account.id().clone(),
        bytes: waiting.demand.memory.filter(|_| account.is_shared()),
    };
    Some(Grant { devices: chosen.into_iter().map(|(_, account)| grant(account)).collect() })
}

/// A device by its place in the ledger.
type Candidate<'a> = (usize, &'a Account<'a>);

/// GPUs of one model if there are enough, else of one architecture, else any: the slowest sets the pace of all. Of kinds
/// that have enough, the one least shared, then the smallest.
fn alike<'a>(fitting: &[Candidate<'a>], wanted: usize) -> Vec<Candidate<'a>> {
    of_one_kind(fitting, wanted, |device| (&device.architecture, &device.name))
        .or_else(|| of_one_kind(fitting, wanted, |device| &device.architecture))
        .unwrap_or_else(|| fitting.to_vec())
}

fn of_one_kind<'a, Kind: Ord>(
    fitting: &[Candidate<'a>],
    wanted: usize,
    kind: impl Fn(&'a Device) -> Kind,
) -> Option<Vec<Candidate<'a>>> {
    let mut kinds: BTreeMap<Kind, Vec<Candidate<'a>>> = BTreeMap::new();
    for (index, account) in fitting {
        kinds.entry(kind(&account.reading.device)).or_default().push((*index, account));
    }
    let enough = kinds.into_values().filter(|alike| alike.len() >= wanted);
    enough.min_by_key(|alike| {
        let chosen = || alike.iter().take(wanted).map(|(_, account)| account);
        let sharing: usize = chosen().map(|account| account.promises.len()).sum();
        (sharing, chosen().map(|account| account.allocatable()).max(), alike[0].0)
    })
}

pub fn fits(ledger: &Ledger<'_>, account: &Account<'_>, waiting: &Waiting) -> bool {
    can_ever(account, waiting)
        && !account.is_taken(ledger, waiting)
        && !account.is_left_alone(ledger.policy)
        && !waiting.refused.iter().any(|(device, _)| device == account.id())
        && match waiting.demand.memory {
            Some(bytes) => !account.is_shared() || account.free() >= bytes,
            None => account.promises.is_empty() && account.is_mostly_free(),
        }
}

/// The device would do if nobody else had anything on it.
pub fn can_ever(account: &Account<'_>, waiting: &Waiting) -> bool {
    account.reading.is_usable() && would_do(account, waiting)
}

/// The same whether it can be used now or not.
pub fn would_do(account: &Account<'_>, waiting: &Waiting) -> bool {
    let large_enough = !account.is_shared() || waiting.demand.memory.is_none_or(|bytes| bytes <= account.allocatable());
    // A program sees one MIG instance at most.
    let combinable = waiting.demand.devices <= 1 || account.reading.device.mig.is_none();
    large_enough && combinable
}
