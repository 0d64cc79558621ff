//! The devices as everybody sees them: measured, and what of it is promised.

use api_types::{DeviceGrantView, DeviceView, Devices, age};
use domain::{DeviceId, DeviceKind, Reading};
use engine::DeviceStatus;
use jiff::Timestamp;
use recipes::advice;

/// `None` while detection has not answered yet.
pub fn view(status: Option<&DeviceStatus>) -> Devices {
    status.map_or_else(detecting, |status| devices(status, Timestamp::now()))
}

/// Bytes of a device that are free by measurement, but not for further tasks.
pub fn promised(status: &DeviceStatus, device: &DeviceId) -> u64 {
    let promised = |reading: &Reading| Some(reading.memory?.free - status.free(reading)?);
    status.inventory.get(device).and_then(promised).unwrap_or(0)
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

fn devices(status: &DeviceStatus, now: Timestamp) -> Devices {
    let inventory = &status.inventory;
    Devices {
        detecting: false,
        age_seconds: age(inventory.taken_at, now),
        devices: inventory.devices.iter().map(|reading| device(status, reading, now)).collect(),
        simulated: inventory.devices.iter().any(|reading| reading.device.kind == DeviceKind::Simulated),
        recommendation: advice::gpu_info(inventory).recommendation,
        findings: inventory.findings.iter().map(Into::into).collect(),
    }
}

fn device(status: &DeviceStatus, reading: &Reading, now: Timestamp) -> DeviceView {
    let grants = status.grants(&reading.device.id);
    let grants: Vec<DeviceGrantView> =
        grants.map(|(task, grant)| DeviceGrantView { task_id: task.to_string(), bytes: grant.bytes }).collect();
    DeviceView {
        free_for_tasks_bytes: status.free(reading),
        task_id: grants.first().map(|grant| grant.task_id.clone()),
        grants,
        ..DeviceView::new(reading, now)
    }
}
