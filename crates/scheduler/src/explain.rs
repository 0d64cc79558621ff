use domain::{DeviceState, Inventory, TaskId, WaitCause, WaitReason};

use crate::{Running, Start};

/// A reason for each task that stays in the queue. First in, first out: all wait for the same thing.
pub fn the_rest(
    inventory: Option<&Inventory>,
    running: &[Running],
    starts: &[Start],
    rest: &[TaskId],
) -> Vec<(TaskId, WaitReason)> {
    let cause = cause(inventory, running, starts);
    rest.iter().zip(1..).map(|(task, position)| (*task, WaitReason { position, cause: cause.clone() })).collect()
}

fn cause(inventory: Option<&Inventory>, running: &[Running], starts: &[Start]) -> WaitCause {
    let Some(inventory) = inventory else { return WaitCause::Detecting };
    let holders = running.iter().map(|running| running.task).chain(starts.iter().map(|start| start.task));
    // The one that has run longest is the likeliest to end first.
    match holders.clone().min() {
        Some(oldest) => WaitCause::DevicesBusy { running: oldest, busy: holders.count() as u32 },
        None => no_usable_device(inventory),
    }
}

fn no_usable_device(inventory: &Inventory) -> WaitCause {
    let unusable = inventory.devices.iter().find_map(|reading| match &reading.state {
        DeviceState::Unusable { zh, en, .. } => Some((&reading.device, zh, en)),
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
