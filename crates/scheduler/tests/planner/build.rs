//! Small machines and queues.

use std::collections::BTreeMap;

use domain::{
    Demand, Device, DeviceGrant, DeviceId, DeviceKind, DeviceMemory, Finding, Grant, Inventory, MigInstance, Priority,
    ProcessUse, Reading, TaskId,
};
use jiff::{SignedDuration, Timestamp};
use scheduler::{Plan, Policy, Queue, Running, Waiting, plan};

pub const GIB: u64 = 1 << 30;
pub const NOW: Timestamp = Timestamp::UNIX_EPOCH;

pub fn id(number: u64) -> TaskId {
    TaskId::new(0, number)
}

pub fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

fn device(index: u32, kind: DeviceKind) -> Device {
    Device::new(format!("GPU-{index}"), kind, index, format!("Card {index}"))
}

/// A GPU of `total` GiB of which others hold `foreign`, in one process that the driver names.
pub fn gpu(index: u32, total: u64, foreign: u64) -> Reading {
    let memory = DeviceMemory {
        total: total * GIB,
        reserved: Some(GIB / 2),
        used: foreign * GIB,
        free: (total - foreign) * GIB - GIB / 2,
    };
    let mut reading = Reading::usable(device(index, DeviceKind::Nvidia), memory, NOW);
    if foreign > 0 {
        let process = ProcessUse { name: Some("vllm".into()), ..ProcessUse::new(4242, Some(foreign * GIB)) };
        reading.processes.push(process);
    }
    reading
}

/// The same, and the others are an inference server that the studio knows.
pub fn served(index: u32, total: u64, service: u64) -> Reading {
    let mut reading = gpu(index, total, service);
    reading.processes.iter_mut().for_each(|process| process.service = Some("vllm".into()));
    reading
}

/// A slice of a GPU.
pub fn slice(index: u32, total: u64) -> Reading {
    let mut reading = gpu(index, total, 0);
    let parent = DeviceId("GPU-99".into());
    reading.device.mig = Some(MigInstance { parent, profile: None, gpu_instance: None, compute_instance: None });
    reading
}

pub fn simulated(index: u32) -> Reading {
    let memory = DeviceMemory { total: 24 * GIB, reserved: None, used: 0, free: 24 * GIB };
    Reading::usable(device(index, DeviceKind::Simulated), memory, NOW)
}

pub fn broken(index: u32) -> Reading {
    let lost = Finding { code: "lost".into(), zh: "丢失".into(), en: "lost".into() };
    Reading::unusable(device(index, DeviceKind::Nvidia), lost, NOW)
}

pub fn inventory(devices: Vec<Reading>) -> Inventory {
    Inventory { taken_at: NOW, devices, findings: vec![], detection_error: None }
}

pub fn holding(task: u64, device: &str, gib: Option<u64>, used: Option<u64>) -> Running {
    let grant = DeviceGrant { device: DeviceId(device.into()), bytes: gib.map(|gib| gib * GIB) };
    Running {
        task: id(task),
        owner: "ana".into(),
        pace: None,
        measuring: false,
        grant: Grant { devices: vec![grant] },
        used: vec![used.map(|gib| gib * GIB)],
        priority: Priority::Normal,
        started_at: NOW,
        ends_at: None,
        shares: true,
        loss: None,
        stopping: false,
    }
}

pub fn waiting(task: u64, devices: u32, gib: Option<u64>) -> Waiting {
    Waiting {
        task: id(task),
        owner: "ana".into(),
        priority: Priority::Normal,
        urgency: 0,
        since: NOW,
        expected: None,
        deadline: None,
        demand: Demand { devices, memory: gib.map(|gib| gib * GIB), shares: true },
        blocked: None,
        refused: vec![],
        timed: false,
    }
}

/// Wants one device for so long.
pub fn lasting(task: u64, hours: i64) -> Waiting {
    Waiting { expected: Some(SignedDuration::from_hours(hours)), ..waiting(task, 1, Some(1)) }
}

pub fn plan_of(policy: &Policy, inventory: Option<&Inventory>, waiting: &[Waiting], running: &[Running]) -> Plan {
    plan_at(policy, inventory, waiting, running, NOW)
}

pub fn plan_at(
    policy: &Policy,
    inventory: Option<&Inventory>,
    waiting: &[Waiting],
    running: &[Running],
    now: Timestamp,
) -> Plan {
    let queue = Queue { waiting, running, usage: &BTreeMap::new(), closed: None, quotas: &BTreeMap::new() };
    plan(policy, inventory, queue, now)
}

/// Those that start, in the order of their turns.
pub fn started(plan: &Plan) -> Vec<u64> {
    plan.starts.iter().map(|start| start.task.number).collect()
}
