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
pub fn all(waiting: &[&Waiting], cause: WaitCause) -> Vec<(TaskId, WaitReason)> {
    let cause = Arc::new(cause);
    numbered(waiting.iter().map(|waiting| (waiting.task, cause.clone())).collect())
}

fn numbered(causes: Vec<(TaskId, Arc<WaitCause>)>) -> Vec<(TaskId, WaitReason)> {
    causes.into_iter().zip(1..).map(|((task, cause), position)| (task, WaitReason { position, cause })).collect()
}

/// What equal tasks wait for alike.
type Need = (u32, Option<u64>, bool);

/// The reasons as the plan comes to them.
#[derive(Default)]
pub struct Waits {
    waits: Vec<(TaskId, Arc<WaitCause>)>,
    /// The first that has to wait for what others hold.
    first: Option<TaskId>,
    /// What those behind it wait for where nobody goes before another.
    behind: Option<Arc<WaitCause>>,
    /// Causes that hold for all tasks with this need, until something is promised.
    known: BTreeMap<Need, Arc<WaitCause>>,
    /// The shortest task of each need that a reservation keeps from starting: as long or longer ones it keeps as well. One
    /// of unknown length is longer than all.
    reserved: BTreeMap<Need, (SignedDuration, Arc<WaitCause>)>,
    promises: usize,
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
            let cause = Arc::new(WaitCause::DevicesBusy { running: *running, busy: 1 });
            self.behind = Some(cause.clone());
            self.waits.push((waiting.task, cause));
            return true;
        }
        let promises = ledger.accounts.iter().map(|account| account.promises.len()).sum();
        if promises != self.promises {
            (self.promises, self.known, self.reserved) = (promises, BTreeMap::new(), BTreeMap::new());
        }
        if !waiting.refused.is_empty() {
            return false;
        }
        let is_long = |(shortest, _): &&(SignedDuration, _)| longest(waiting) >= *shortest;
        let reserved = || self.reserved.get(&need(waiting)).filter(is_long).map(|(_, cause)| cause);
        match self.known.get(&need(waiting)).or_else(reserved) {
            Some(cause) => {
                self.waits.push((waiting.task, cause.clone()));
                true
            }
            None => false,
        }
    }

    /// Says why the task found no devices; true for the first that waits for what others hold.
    pub fn explain(&mut self, ledger: &Ledger<'_>, reservation: Option<&Reservation>, waiting: &Waiting) -> bool {
        if let Some(kept) = reservation
            && place::on_devices(ledger, None, waiting).is_some()
        {
            let cause = Arc::new(kept.cause());
            self.waits.push((waiting.task, cause.clone()));
            if waiting.refused.is_empty() {
                self.reserved.insert(need(waiting), (longest(waiting), cause));
            }
            return false;
        }
        let cause = Arc::new(cause(ledger, waiting));
        self.waits.push((waiting.task, cause.clone()));
        if waiting.refused.is_empty() {
            self.known.insert(need(waiting), cause.clone());
        }
        let is_first = self.first.is_none() && !is_for_ever(&cause);
        if is_first {
            self.first = Some(waiting.task);
            if !ledger.policy.backfill {
                self.behind = Some(match &*cause {
                    WaitCause::DevicesBusy { .. } | WaitCause::NoUsableDevice { .. } => cause,
                    _ => Arc::new(WaitCause::Behind { task: waiting.task }),
                });
            }
        }
        is_first
    }

    /// All that wait, if any, wait for something else, or for more than this machine has.
    pub fn nobody_wants_a_device(&self) -> bool {
        self.first.is_none() && self.behind.is_none()
    }

    pub fn numbered(self) -> Vec<(TaskId, WaitReason)> {
        numbered(self.waits)
    }
}

fn need(waiting: &Waiting) -> Need {
    (waiting.demand.devices, waiting.demand.memory, waiting.demand.shares)
}

fn longest(waiting: &Waiting) -> SignedDuration {
    waiting.expected.unwrap_or(SignedDuration::MAX)
}

/// This machine can never run it, so it holds up nobody.
pub fn is_for_ever(cause: &WaitCause) -> bool {
    matches!(cause, WaitCause::TooLarge { .. } | WaitCause::TooManyDevices { .. })
}

/// The binding reason why no devices were found for this task.
fn cause(ledger: &Ledger<'_>, waiting: &Waiting) -> WaitCause {
    let usable: Vec<&Account<'_>> = ledger.accounts.iter().filter(|account| account.reading.is_usable()).collect();
    if usable.is_empty() {
        return nothing_usable(ledger);
    }
    let possible: Vec<&Account<'_>> =
        usable.iter().filter(|account| place::can_ever(account, waiting)).copied().collect();
    let wanted = waiting.demand.devices.max(1) as usize;
    if possible.len() < wanted {
        let largest = usable.iter().max_by_key(|account| account.allocatable()).expect("one is usable");
        return match waiting.demand.memory {
            Some(needed) if needed > largest.allocatable() => {
                let (device, largest) = (label(largest.reading), largest.allocatable());
                WaitCause::TooLarge { needed, device, largest }
            }
            _ => WaitCause::TooManyDevices { wanted: wanted as u32, usable: possible.len() as u32 },
        };
    }
    let short = possible.iter().filter(|account| !place::fits(ledger, account, waiting));
    let short: Vec<&&Account<'_>> = short.filter(|account| !account.is_taken(ledger.policy, waiting)).collect();
    // Tell of the device that comes nearest to what is needed.
    if let Some(nearest) = short.iter().max_by_key(|account| account.free()) {
        return match waiting.refused.iter().find(|(device, _)| device == nearest.id()) {
            Some((_, cause)) => cause.clone(),
            None => short_of_memory(ledger, nearest, waiting),
        };
    }
    match ledger.holders.first() {
        // The one that has run longest is the likeliest to end first.
        Some(oldest) => WaitCause::DevicesBusy { running: *oldest, busy: busy(ledger) },
        None => nothing_usable(ledger),
    }
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
