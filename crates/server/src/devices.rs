//! The devices as everybody sees them: measured, and what of it is promised.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use api_types::{DeviceGrantView, DeviceView, Devices, age};
use domain::{DeviceId, DeviceKind, Inventory, Reading, TaskId};
use engine::{DeviceStatus, Handle};
use jiff::Timestamp;
use recipes::advice;

use crate::error::Result;

/// Rendered once for each change, however many pages are open.
#[derive(Default)]
pub struct DevicePicture {
    kept: Mutex<Option<(Arc<DeviceStatus>, Devices)>>,
}

impl DevicePicture {
    /// May block.
    pub fn render(&self, engine: &Handle) -> Result<Devices> {
        let Some(status) = engine.view().devices() else { return Ok(detecting()) };
        let now = Timestamp::now();
        let mut kept = self.kept.lock().expect("rendering does not panic");
        match &mut *kept {
            Some((of, devices)) if Arc::ptr_eq(of, &status) => grow_older(devices, &status.inventory, now),
            kept => *kept = Some((status.clone(), devices(&status, engine, now)?)),
        }
        Ok(kept.as_ref().map_or_else(detecting, |(_, devices)| devices.clone()))
    }

    /// Bytes of each device that are free by measurement, but not for further tasks. May block.
    pub fn promised(&self, engine: &Handle) -> Result<HashMap<DeviceId, u64>> {
        let promised = |device: DeviceView| {
            let free = device.memory.as_ref().map_or(0, |memory| memory.free);
            (DeviceId(device.id), free - device.free_for_tasks_bytes.unwrap_or(free).min(free))
        };
        Ok(self.render(engine)?.devices.into_iter().map(promised).collect())
    }
}

fn detecting() -> Devices {
    Devices {
        detecting: true,
        age_seconds: 0.0,
        devices: Vec::new(),
        simulated: false,
        recommendation: advice::GpuInfo::detecting().recommendation,
        findings: Vec::new(),
    }
}

fn grow_older(devices: &mut Devices, inventory: &Inventory, now: Timestamp) {
    devices.age_seconds = age(inventory.taken_at, now);
    for (device, reading) in devices.devices.iter_mut().zip(&inventory.devices) {
        device.age_seconds = age(reading.taken_at, now);
    }
}

fn devices(status: &DeviceStatus, engine: &Handle, now: Timestamp) -> Result<Devices> {
    let DeviceStatus { inventory, holders } = status;
    let mut devices = Vec::new();
    for reading in &inventory.devices {
        let mut device = DeviceView::new(reading, now);
        for (_, task) in holders.iter().filter(|(held, _)| *held == reading.device.id) {
            promise(&mut device, reading, *task, engine)?;
        }
        device.task_id = device.grants.first().map(|grant| grant.task_id.clone());
        devices.push(device);
    }
    Ok(Devices {
        detecting: false,
        age_seconds: age(inventory.taken_at, now),
        devices,
        simulated: inventory.devices.iter().any(|reading| reading.device.kind == DeviceKind::Simulated),
        recommendation: advice::gpu_info(inventory).recommendation,
        findings: inventory.findings.iter().map(Into::into).collect(),
    })
}

/// Books what the task was promised, and takes what it does not use yet from what is free for others.
fn promise(device: &mut DeviceView, reading: &Reading, task: TaskId, engine: &Handle) -> Result<()> {
    // Gone since: it holds nothing any more.
    let Some(snapshot) = engine.task(task)? else { return Ok(()) };
    let grant = snapshot
        .task
        .state
        .attempt()
        .and_then(|attempt| attempt.grant.devices.iter().find(|granted| granted.device == reading.device.id));
    let bytes = grant.and_then(|granted| granted.bytes);
    let own = reading.processes.iter().filter(|process| process.task == Some(task));
    let used = own.filter_map(|process| process.bytes).sum::<u64>().max(snapshot.progress.device_bytes.unwrap_or(0));
    device.free_for_tasks_bytes = device.free_for_tasks_bytes.map(|free| match bytes {
        Some(granted) => free.saturating_sub(granted.saturating_sub(used)),
        None => 0,
    });
    device.grants.push(DeviceGrantView { task_id: task.to_string(), bytes });
    Ok(())
}
