use std::collections::BTreeSet;

use domain::{DeviceGrant, DeviceId, DeviceState, Grant, Inventory, TaskId};

use crate::{Running, Start};

/// Gives each free, usable device to the next waiting task, in the order of the inventory.
pub fn on_free_devices(inventory: Option<&Inventory>, running: &[Running], waiting: &[TaskId]) -> Vec<Start> {
    let Some(inventory) = inventory else { return Vec::new() };
    let held = held(running);
    let free = inventory
        .devices
        .iter()
        .filter(|reading| reading.state == DeviceState::Usable && !held.contains(&reading.device.id));
    waiting
        .iter()
        .zip(free)
        .map(|(task, reading)| Start {
            task: *task,
            grant: Grant { devices: vec![DeviceGrant { device: reading.device.id.clone(), bytes: None }] },
        })
        .collect()
}

fn held(running: &[Running]) -> BTreeSet<&DeviceId> {
    running.iter().flat_map(|running| &running.grant.devices).map(|grant| &grant.device).collect()
}
