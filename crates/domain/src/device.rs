use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::TaskId;

/// A schedulable device by its UUID (`GPU-…`, `MIG-…`, `SIM-…`, `CPU`), never by index.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceId(pub String);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    Nvidia,
    Amd,
    Intel,
    /// Made up by `SAGE_GPU_MOCK_COUNT`; shown as such everywhere.
    Simulated,
    /// The machine itself, when it has no GPU: host memory, one task at a time.
    Cpu,
}

impl DeviceKind {
    pub fn as_str(self) -> &'static str {
        match self {
            DeviceKind::Nvidia => "nvidia",
            DeviceKind::Amd => "amd",
            DeviceKind::Intel => "intel",
            DeviceKind::Simulated => "simulated",
            DeviceKind::Cpu => "cpu",
        }
    }

    /// A card with memory that is measured, which tasks and other programs can share.
    pub fn is_real_gpu(self) -> bool {
        matches!(self, DeviceKind::Nvidia | DeviceKind::Amd | DeviceKind::Intel)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub id: DeviceId,
    pub kind: DeviceKind,
    /// Position in the driver's own listing; for people to read, never to address a device by.
    pub index: u32,
    pub name: String,
    /// PCI bus id, such as `00000000:01:00.0`.
    pub pci_bus_id: Option<String>,
    /// Such as `Ampere`.
    pub architecture: Option<String>,
    /// Set for a MIG instance, which is a device of its own.
    pub mig: Option<MigInstance>,
    /// Its memory is the machine's: integrated chips such as GB10 and Jetson.
    pub unified_memory: bool,
}

impl Device {
    pub fn new(id: impl Into<String>, kind: DeviceKind, index: u32, name: impl Into<String>) -> Device {
        Device {
            id: DeviceId(id.into()),
            kind,
            index,
            name: name.into(),
            pci_bus_id: None,
            architecture: None,
            mig: None,
            unified_memory: false,
        }
    }
}

/// A slice of a GPU with memory and processors of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigInstance {
    pub parent: DeviceId,
    /// Such as `1g.10gb`.
    pub profile: Option<String>,
    pub gpu_instance: Option<u32>,
    pub compute_instance: Option<u32>,
}

/// Memory of a device in bytes. `free` is what the driver says, never `total - used`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMemory {
    pub total: u64,
    /// Held by the driver and firmware; no process can have it.
    pub reserved: Option<u64>,
    pub used: u64,
    pub free: u64,
}

impl DeviceMemory {
    /// What a process could be given at most, in bytes.
    pub fn allocatable(&self) -> u64 {
        self.total - self.reserved.unwrap_or(0).min(self.total)
    }
}

/// One process seen on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUse {
    pub pid: u32,
    pub name: Option<String>,
    pub user: Option<String>,
    /// The command line, cut to a readable length.
    pub command: Option<String>,
    /// Bytes of device memory; `None` where the driver does not say.
    pub bytes: Option<u64>,
    /// The task of this studio that it belongs to; `None`: foreign.
    pub task: Option<TaskId>,
    /// The inference service it belongs to: one that is registered, or known by its command line.
    pub service: Option<String>,
}

impl ProcessUse {
    pub fn new(pid: u32, bytes: Option<u64>) -> ProcessUse {
        ProcessUse { pid, name: None, user: None, command: None, bytes, task: None, service: None }
    }
}

/// Clock frequencies in MHz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    pub graphics: u32,
    pub memory: Option<u32>,
}

/// What the hardware says about its own condition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Uncorrected ECC errors since the driver was loaded; `None` where ECC is off or unknown.
    pub uncorrected_ecc_errors: Option<u64>,
    /// Memory rows wait to be replaced at the next reset.
    pub row_remap_pending: Option<bool>,
    /// The newest critical error of the driver since the studio watches.
    pub last_xid: Option<Xid>,
}

/// A critical error as the NVIDIA driver numbers them, for example 79: fell off the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xid {
    pub code: u64,
    pub at: Timestamp,
}

/// Whether tasks may be placed on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DeviceState {
    Usable,
    /// Could not be read or is broken: nothing is placed here, for this reason.
    Unusable {
        code: String,
        zh: String,
        en: String,
    },
}

/// What was measured of a device at one moment; an unknown figure is `None`, never 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    pub device: Device,
    /// When the figures were measured: earlier than the inventory where the driver no longer answers.
    pub taken_at: Timestamp,
    pub state: DeviceState,
    pub memory: Option<DeviceMemory>,
    /// Per cent of the last sample period in which a kernel ran.
    pub utilisation: Option<u32>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Watts.
    pub power: Option<f64>,
    pub clocks: Option<Clocks>,
    pub health: Health,
    pub processes: Vec<ProcessUse>,
    /// Bytes in use that no listed process accounts for; `None` where a process hides its use.
    pub unattributed: Option<u64>,
}

impl Reading {
    /// A device of which only the memory is known.
    pub fn usable(device: Device, memory: DeviceMemory, taken_at: Timestamp) -> Reading {
        Reading { memory: Some(memory), state: DeviceState::Usable, ..Reading::blank(device, taken_at) }
    }

    /// A device on which nothing may be placed, and why.
    pub fn unusable(device: Device, Finding { code, zh, en }: Finding, taken_at: Timestamp) -> Reading {
        Reading { state: DeviceState::Unusable { code, zh, en }, ..Reading::blank(device, taken_at) }
    }

    pub fn is_usable(&self) -> bool {
        self.state == DeviceState::Usable
    }

    fn blank(device: Device, taken_at: Timestamp) -> Reading {
        Reading {
            device,
            taken_at,
            state: DeviceState::Usable,
            memory: None,
            utilisation: None,
            temperature: None,
            power: None,
            clocks: None,
            health: Health::default(),
            processes: Vec::new(),
            unattributed: None,
        }
    }
}

/// Something detection found out about the machine as a whole: no driver, simulated devices, a mismatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub code: String,
    pub zh: String,
    pub en: String,
}

/// All devices at one moment, and what detection has to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    pub taken_at: Timestamp,
    pub devices: Vec<Reading>,
    pub findings: Vec<Finding>,
    /// Set when GPU detection itself failed (the old API's `GPU 检测失败: …`); the devices then are the CPU.
    pub detection_error: Option<String>,
}

impl Inventory {
    pub fn get(&self, id: &DeviceId) -> Option<&Reading> {
        self.devices.iter().find(|reading| reading.device.id == *id)
    }

    /// Readings of real or simulated GPUs, without the CPU stand-in.
    pub fn gpus(&self) -> impl Iterator<Item = &Reading> {
        self.devices.iter().filter(|reading| reading.device.kind != DeviceKind::Cpu)
    }
}
