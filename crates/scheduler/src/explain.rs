//! The binding reason of every task that does not start.

use std::{collections::BTreeMap, sync::Arc};

use domain::{DeviceKind, DeviceState, Reading, TaskId, WaitCause, WaitReason};
use jiff::SignedDuration;

use crate::{
    Waiting,
    ledger::{Account, Ledger},
    place,
    reserve::Reservation,
};

/// The same cause for everybody.
pub fn all<'a>(waiting: impl Iterator<Item = &'a Waiting>, cause: WaitCause) -> Vec<(TaskId, WaitReason)> {
    let cause = Arc::new(cause);
    numbered(waiting.map(|waiting| (waiting.task, cause.clone())).collect())
}

fn numbered(causes: Vec<(TaskId, Arc<WaitCause>)>) -> Vec<(TaskId, WaitReason)> {
    causes.into_iter().zip(1..).map(|((task, cause), position)| (task, WaitReason::new(position, cause))).collect()
}

/// So many reasons are told with each task's own numbers. Behind them, needs that differ by less than [`ALIKE`] share one:
/// that keeps a queue of a hundred thousand different tasks affordable.
const EXACT: usize = 1000;
/// Bytes: the last digit of a size as it is shown.
const ALIKE: u64 = 100 << 20;

/// Tasks that wait for the same: devices, bytes on each or steps of [`ALIKE`], whether they share.
type Need = (u32, Option<u64>, bool);

/// The reasons as the plan comes to them.
#[derive(Default)]
pub struct Waits {
    waits: Vec<(TaskId, Arc<WaitCause>)>,
    /// Somebody waits for what others hold.
    is_wanted: bool,
    /// What those behind it wait for where nobody goes before another.
    behind: Option<Arc<WaitCause>>,
    /// The least bytes with this need that found no devices, until something is promised: more will not either.
    known: BTreeMap<Need, (u64, Arc<WaitCause>)>,
    /// The least bytes and the shortest task of each need that a reservation keeps from starting: more and longer ones it
    /// keeps as well. One of unknown length is longer than all.
    reserved: BTreeMap<Need, (u64, SignedDuration, Arc<WaitCause>)>,
    promises: usize,
    told: usize,
}

impl Waits {
    /// For another reason than the devices.
    pub fn blocked(&mut self, waiting: &Waiting, cause: Arc<WaitCause>) {
        self.waits.push((waiting.task, cause));
    }

    /// Has the task wait without a try where its turn has not come, or where an equal one failed a moment ago.
    pub fn hold_up(&mut self, ledger: &Ledger<'_>, waiting: &Waiting) -> bool {
        if let Some(cause) = &self.behind {
            self.waits.push((waiting.task, cause.clone()));
            return true;
        }
        if ledger.policy.one_at_a_time
            && let Some(running) = ledger.holders.first()
        {
            let cause = Arc::new(WaitCause::DevicesBusy { running: *running, busy: 1, wanted: 1, free: 0 });
            self.behind = Some(cause.clone());
            self.waits.push((waiting.task, cause));
            return true;
        }
        if ledger.promises != self.promises {
            (self.promises, self.known, self.reserved) = (ledger.promises, BTreeMap::new(), BTreeMap::new());
        }
        if !waiting.refused.is_empty() {
            return false;
        }
        match self
            .failed(need(ledger, waiting, 1), waiting)
            .or_else(|| self.failed(need(ledger, waiting, ALIKE), waiting))
        {
            Some(cause) => {
                self.waits.push((waiting.task, cause));
                true
            }
            None => false,
        }
    }

    /// Why a task with this need that asks for no more than this one failed.
    fn failed(&self, need: Need, waiting: &Waiting) -> Option<Arc<WaitCause>> {
        if let Some((_, cause)) = self.known.get(&need).filter(|(least, _)| bytes(waiting) >= *least) {
            return Some(cause.clone());
        }
        let (least, shortest, cause) = self.reserved.get(&need)?;
        (bytes(waiting) >= *least && longest(waiting) >= *shortest).then(|| cause.clone())
    }

    /// Says why the task found no devices; true if it waits for what others hold.
    pub fn explain(&mut self, ledger: &Ledger<'_>, reservation: Option<&Reservation>, waiting: &Waiting) -> bool {
        self.told += 1;
        let need = need(ledger, waiting, if self.told > EXACT { ALIKE } else { 1 });
        if let Some(kept) = reservation
            && place::on_devices(ledger, None, waiting).is_some()
        {
            let cause =
                self.reserved.values().next().map_or_else(|| Arc::new(kept.cause()), |(.., cause)| cause.clone());
            self.waits.push((waiting.task, cause.clone()));
            if waiting.refused.is_empty() {
                self.reserved.insert(need, (bytes(waiting), longest(waiting), cause));
            }
            return false;
        }
        let cause = Arc::new(cause(ledger, waiting));
        self.waits.push((waiting.task, cause.clone()));
        if waiting.refused.is_empty() {
            self.known.insert(need, (bytes(waiting), cause.clone()));
        }
        if is_for_ever(&cause) {
            return false;
        }
        self.is_wanted = true;
        if !ledger.policy.backfill {
            self.behind = Some(match &*cause {
                WaitCause::DevicesBusy { wanted: ..=1, .. } | WaitCause::NoUsableDevice { .. } => cause,
                _ => Arc::new(WaitCause::Behind { task: waiting.task }),
            });
        }
        true
    }

    /// All that wait, if any, wait for something else, or for more than this machine has.
    pub fn nobody_wants_a_device(&self) -> bool {
        !self.is_wanted && self.behind.is_none()
    }

    /// Nobody goes before another, and one waits: so do all behind it.
    pub fn all_wait(&self) -> bool {
        self.behind.is_some()
    }

    pub fn len(&self) -> usize {
        self.waits.len()
    }

    pub fn numbered(self) -> Vec<(TaskId, WaitReason)> {
        numbered(self.waits)
    }
}

fn need(ledger: &Ledger<'_>, waiting: &Waiting, step: u64) -> Need {
    (waiting.demand.devices, waiting.demand.memory.map(|bytes| bytes / step), ledger.shares(waiting))
}

fn bytes(waiting: &Waiting) -> u64 {
    waiting.demand.memory.unwrap_or(0)
}

fn longest(waiting: &Waiting) -> SignedDuration {
    waiting.expected.unwrap_or(SignedDuration::MAX)
}

/// This machine can never run it as it is, so it holds up nobody.
pub fn is_for_ever(cause: &WaitCause) -> bool {
    matches!(cause, WaitCause::TooLarge { .. } | WaitCause::TooManyDevices { .. } | WaitCause::DeviceUnusable { .. })
}

/// The binding reason why no devices were found for this task.
fn cause(ledger: &Ledger<'_>, waiting: &Waiting) -> WaitCause {
    let usable = || ledger.accounts.iter().filter(|account| account.reading.is_usable());
    let possible = || usable().filter(|account| place::can_ever(account, waiting));
    let Some(largest) = usable().max_by_key(|account| account.allocatable()) else { return nothing_usable(ledger) };
    let (wanted, found) = (waiting.demand.devices.max(1), possible().count() as u32);
    if found < wanted {
        if let Some(cause) = unusable(ledger, waiting, found) {
            return cause;
        }
        return match waiting.demand.memory {
            Some(needed) if needed > largest.allocatable() => {
                let (device, largest) = (label(largest.reading), largest.allocatable());
                WaitCause::TooLarge { needed, device, largest }
            }
            _ => WaitCause::TooManyDevices { wanted, usable: found },
        };
    }
    let is_short =
        |account: &&Account<'_>| !account.is_taken(ledger, waiting) && !place::fits(ledger, account, waiting);
    // Tell of the device that comes nearest to what is needed.
    if let Some(nearest) = possible().filter(is_short).max_by_key(|account| account.free()) {
        return match waiting.refused.iter().find(|(device, _)| device == nearest.id()) {
            Some((_, cause)) => cause.clone(),
            None => short_of_memory(ledger, nearest, waiting),
        };
    }
    match ledger.holders.first() {
        // The one that has run longest is the likeliest to end first.
        Some(oldest) => {
            let free = possible().filter(|account| place::fits(ledger, account, waiting)).count() as u32;
            WaitCause::DevicesBusy { running: *oldest, busy: busy(ledger), wanted, free }
        }
        None => nothing_usable(ledger),
    }
}

/// Devices that cannot be used at present would make up for what is wanting. The size of one may be unknown: then it is taken
/// to be like the others that would do, if there are any.
fn unusable(ledger: &Ledger<'_>, waiting: &Waiting, usable: u32) -> Option<WaitCause> {
    let wanted = waiting.demand.devices.max(1);
    let would_do = |account: &&Account<'_>| {
        let is_known = account.reading.memory.is_some() || waiting.demand.memory.is_none() || usable > 0;
        !account.reading.is_usable() && is_known && place::would_do(account, waiting)
    };
    let others = || ledger.accounts.iter().filter(would_do);
    let reading = others().next().filter(|_| usable + others().count() as u32 >= wanted)?.reading;
    let DeviceState::Unusable { zh, en, .. } = &reading.state else { return None };
    Some(WaitCause::DeviceUnusable { wanted, usable, device: label(reading), zh: zh.clone(), en: en.clone() })
}

fn short_of_memory(ledger: &Ledger<'_>, account: &Account<'_>, waiting: &Waiting) -> WaitCause {
    if account.is_left_alone(ledger.policy) {
        return WaitCause::ForeignUse { device: label(account.reading), holders: account.foreign_holders() };
    }
    let (device, free, holders) = (label(account.reading), account.free(), account.memory_holders());
    match waiting.demand.memory {
        Some(needed) => WaitCause::DeviceMemory { needed, device, free, holders },
        None => WaitCause::WholeDevice { device, free, total: account.allocatable(), holders },
    }
}

fn busy(ledger: &Ledger<'_>) -> u32 {
    ledger.accounts.iter().filter(|account| !account.promises.is_empty()).count() as u32
}

/// `GPU 0`, `GPU 0 (MIG 1g.10gb)`, or what the device is called if it is no card.
pub fn label(reading: &Reading) -> String {
    let device = &reading.device;
    match (&device.mig, device.kind) {
        (_, DeviceKind::Cpu) => device.name.clone(),
        (Some(mig), _) => format!("GPU {} (MIG {})", device.index, mig.profile.as_deref().unwrap_or("?")),
        (None, _) => format!("GPU {}", device.index),
    }
}

fn nothing_usable(ledger: &Ledger<'_>) -> WaitCause {
    let unusable = ledger.accounts.iter().find_map(|account| match &account.reading.state {
        DeviceState::Unusable { zh, en, .. } => Some((&account.reading.device, zh, en)),
        DeviceState::Usable => None,
    });
    match unusable {
        Some((device, zh, en)) => {
            WaitCause::NoUsableDevice { zh: format!("{}：{zh}", device.name), en: format!("{}: {en}", device.name) }
        }
        None => {
            WaitCause::NoUsableDevice { zh: "没有检测到任何设备".into(), en: "no device was detected".into() }
        }
    }
}
