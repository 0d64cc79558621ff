use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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
    /// Made up by `SAGE_GPU_MOCK_COUNT`; shown as such everywhere.
    Simulated,
    /// The machine itself, when it has no GPU: host memory, one task at a time.
    Cpu,
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
    /// Bytes of device memory; `None` where the driver does not say.
    pub bytes: Option<u64>,
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
    pub state: DeviceState,
    pub memory: Option<DeviceMemory>,
    /// Per cent of the last sample period in which a kernel ran.
    pub utilisation: Option<u32>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Watts.
    pub power: Option<f64>,
    pub processes: Vec<ProcessUse>,
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
