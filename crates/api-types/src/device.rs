//! The GPUs: what is free, who holds the rest.

use domain::{DeviceState, Finding, ProcessUse, Reading};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Message;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Devices {
    /// Detection has not finished for the first time; the rest is empty then.
    pub detecting: bool,
    /// Seconds since the readings were taken.
    pub age_seconds: f64,
    pub devices: Vec<DeviceView>,
    /// True when the GPUs are made up (`SAGE_GPU_MOCK_COUNT`).
    pub simulated: bool,
    /// The sentence for the banner, the same as `GET /api/system/gpu-info` answers.
    pub recommendation: String,
    pub findings: Vec<Message>,
}

/// One GPU or MIG instance as last measured; what could not be measured is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceView {
    /// UUID.
    pub id: String,
    /// `nvidia`, `amd`, `intel`, `simulated` or `cpu`.
    pub kind: String,
    /// Position in the driver's listing.
    pub index: u32,
    pub name: String,
    /// Such as `00000000:01:00.0`.
    pub pci_bus_id: Option<String>,
    /// Such as `Ampere`.
    pub architecture: Option<String>,
    /// Set for a MIG instance.
    pub mig: Option<MigView>,
    /// Its memory is the machine's.
    pub unified_memory: bool,
    /// When it last answered: earlier than the other devices where its driver hangs.
    pub taken_at: String,
    /// Seconds since then.
    pub age_seconds: f64,
    pub memory: Option<MemoryView>,
    /// Free by measurement and promised to no task.
    pub free_for_tasks_bytes: Option<u64>,
    pub utilisation_percent: Option<u32>,
    pub temperature_celsius: Option<u32>,
    pub power_watts: Option<f64>,
    pub clocks: Option<ClocksView>,
    pub health: HealthView,
    pub processes: Vec<ProcessView>,
    /// In use, but by no process that can be seen; `null` where a process hides how much it uses.
    pub unattributed_bytes: Option<u64>,
    /// Why nothing may be placed here, if so.
    pub unusable: Option<Message>,
    /// What tasks were promised here, the oldest task first.
    pub grants: Vec<DeviceGrantView>,
    /// The task of the first grant.
    pub task_id: Option<String>,
}

/// A slice of a GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MigView {
    /// UUID of the GPU.
    pub parent: String,
    /// Such as `1g.10gb`.
    pub profile: Option<String>,
    pub gpu_instance: Option<u32>,
    pub compute_instance: Option<u32>,
}

/// Bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryView {
    pub total: u64,
    /// Held by driver and firmware.
    pub reserved: Option<u64>,
    pub used: u64,
    pub free: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClocksView {
    pub graphics_mhz: u32,
    pub memory_mhz: Option<u32>,
}

/// What the hardware says about its own condition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// Since the driver was loaded; `null` where ECC is off or unknown.
    pub uncorrected_ecc_errors: Option<u64>,
    /// Memory rows wait to be replaced at the next reset.
    pub row_remap_pending: Option<bool>,
    /// The newest critical error since the studio watches.
    pub last_xid: Option<XidView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct XidView {
    /// As NVIDIA numbers them, for example 79: fell off the bus.
    pub code: u64,
    pub at: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProcessView {
    pub pid: u32,
    pub name: Option<String>,
    pub user: Option<String>,
    /// The command line, cut to a readable length.
    pub command: Option<String>,
    pub bytes: Option<u64>,
    /// Set for a task of this studio.
    pub task_id: Option<String>,
    /// Set for an inference service, such as `vLLM`. Foreign is what has neither this nor `task_id`.
    pub service: Option<String>,
}

/// A promise to a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceGrantView {
    pub task_id: String,
    /// `null`: the whole device.
    pub bytes: Option<u64>,
}

/// One line of the doctor's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    /// What was looked at, such as `nvidia-driver`.
    pub subject: String,
    /// `ok`, `problem` or `note`.
    pub status: String,
    /// What was found.
    pub zh: String,
    pub en: String,
    /// What to do about it; empty where nothing need be done.
    pub next_zh: String,
    pub next_en: String,
}

impl DeviceView {
    /// A device that no task holds.
    pub fn new(reading: &Reading, now: Timestamp) -> DeviceView {
        let Reading { device, memory, health, .. } = reading;
        DeviceView {
            id: device.id.to_string(),
            kind: device.kind.as_str().into(),
            index: device.index,
            name: device.name.clone(),
            pci_bus_id: device.pci_bus_id.clone(),
            architecture: device.architecture.clone(),
            mig: device.mig.as_ref().map(|mig| MigView {
                parent: mig.parent.to_string(),
                profile: mig.profile.clone(),
                gpu_instance: mig.gpu_instance,
                compute_instance: mig.compute_instance,
            }),
            unified_memory: device.unified_memory,
            taken_at: reading.taken_at.to_string(),
            age_seconds: age(reading.taken_at, now),
            memory: memory.map(|memory| MemoryView {
                total: memory.total,
                reserved: memory.reserved,
                used: memory.used,
                free: memory.free,
            }),
            free_for_tasks_bytes: memory.filter(|_| reading.is_usable()).map(|memory| memory.free),
            utilisation_percent: reading.utilisation,
            temperature_celsius: reading.temperature,
            power_watts: reading.power,
            clocks: reading
                .clocks
                .map(|clocks| ClocksView { graphics_mhz: clocks.graphics, memory_mhz: clocks.memory }),
            health: HealthView {
                uncorrected_ecc_errors: health.uncorrected_ecc_errors,
                row_remap_pending: health.row_remap_pending,
                last_xid: health.last_xid.map(|xid| XidView { code: xid.code, at: xid.at.to_string() }),
            },
            processes: reading.processes.iter().map(ProcessView::from).collect(),
            unattributed_bytes: reading.unattributed,
            unusable: match &reading.state {
                DeviceState::Usable => None,
                DeviceState::Unusable { code, zh, en } => {
                    Some(Message { code: code.clone(), zh: zh.clone(), en: en.clone() })
                }
            },
            grants: Vec::new(),
            task_id: None,
        }
    }
}

/// Seconds since a moment, never below 0 where clocks were set.
pub fn age(taken_at: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(taken_at).as_secs_f64().max(0.0)
}

impl From<&ProcessUse> for ProcessView {
    fn from(process: &ProcessUse) -> ProcessView {
        ProcessView {
            pid: process.pid,
            name: process.name.clone(),
            user: process.user.clone(),
            command: process.command.clone(),
            bytes: process.bytes,
            task_id: process.task.map(|task| task.to_string()),
            service: process.service.clone(),
        }
    }
}

impl From<&Finding> for Message {
    fn from(finding: &Finding) -> Message {
        Message { code: finding.code.clone(), zh: finding.zh.clone(), en: finding.en.clone() }
    }
}
