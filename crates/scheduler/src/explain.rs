use domain::{DeviceKind, DeviceState, Reading, TaskId, WaitCause, WaitReason};

use crate::{
    Waiting,
    ledger::{Account, Ledger},
    place,
};

/// The same cause for everybody.
pub fn all(waiting: &[Waiting], cause: &WaitCause) -> Vec<(TaskId, WaitReason)> {
    numbered(waiting.iter().map(|waiting| (waiting.task, cause.clone())).collect())
}

pub fn numbered(causes: Vec<(TaskId, WaitCause)>) -> Vec<(TaskId, WaitReason)> {
    causes.into_iter().zip(1..).map(|((task, cause), position)| (task, WaitReason { position, cause })).collect()
}

/// What those behind a waiting task wait for: the same busy devices, else that task.
pub fn followers(first: Option<&(TaskId, WaitCause)>, rest: &[TaskId]) -> Vec<(TaskId, WaitCause)> {
    let Some((task, cause)) = first else { return Vec::new() };
    let cause = match cause {
        WaitCause::DevicesBusy { .. } | WaitCause::NoUsableDevice { .. } => cause.clone(),
        _ => WaitCause::Behind { task: *task },
    };
    rest.iter().map(|task| (*task, cause.clone())).collect()
}

/// The binding reason why no devices were found for this task.
pub fn cause(ledger: &Ledger<'_>, waiting: &Waiting) -> WaitCause {
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
    let short: Vec<&&Account<'_>> = short.filter(|account| !account.is_taken(ledger.policy)).collect();
    // Tell of the device that comes nearest to what is needed.
    if let Some(nearest) = short.iter().max_by_key(|account| account.free()) {
        return match waiting.refused.iter().find(|(device, _)| device == nearest.id()) {
            Some((_, cause)) => cause.clone(),
            None => short_of_memory(ledger, nearest, waiting),
        };
    }
    let holders = ledger.holders();
    match holders.first() {
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
fn label(reading: &Reading) -> String {
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
