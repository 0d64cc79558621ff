//! What the machine looks like: the contents of `state.json`. Memory is in bytes.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub driver_version: String,
    /// As CUDA counts: 13000 is 13.0.
    pub cuda_version: i32,
    pub gpus: Vec<Gpu>,
    /// What every `nvmlInit` answers instead of success: 9 driver not loaded, 4 no permission, 18 versions of driver and
    /// library differ. CUDA then finds no GPU either.
    #[serde(default)]
    pub init_error: Option<u32>,
    /// How long every `nvmlInit` takes. A wait ends early when this is lowered.
    #[serde(default)]
    pub init_seconds: f64,
    #[serde(default)]
    pub cuda: Cuda,
}

/// What only the CUDA driver API shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cuda {
    /// What every `cuInit` answers instead of success: 3 not initialized, 804 forward compatibility, 999 unknown, ...
    pub init_error: Option<i32>,
    /// How long every `cuInit` takes. A wait ends early when this is lowered.
    pub init_seconds: f64,
    /// What a process uses before it allocates anything. Several hundred MiB on real GPUs.
    pub context_bytes: u64,
    /// A process that would hold more than this on one device is out of memory, whatever NVML says is free.
    pub oom_above: Option<u64>,
    /// Happens once, at the next `cuInit` of any process.
    pub external_on_init: Option<Arrival>,
}

/// A foreign process that appears on a GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// UUID of the GPU.
    pub gpu: String,
    pub process: ExternalProcess,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    pub uuid: String,
    pub name: String,
    pub architecture: Architecture,
    pub compute_capability: [i32; 2],
    /// Streaming multiprocessors.
    pub sms: u32,
    /// `domain:bus:device.function`, as NVML writes it: `00000000:1B:00.0`.
    pub pci_bus_id: String,
    pub pci_device_id: u16,
    pub total: u64,
    /// Kept by the driver; nobody can allocate it.
    pub reserved: u64,
    #[serde(default)]
    pub memory: MemoryReport,
    /// In use by nobody that the process lists show.
    #[serde(default)]
    pub unattributed: u64,
    #[serde(default)]
    pub processes: Vec<ExternalProcess>,
    #[serde(default)]
    pub process_list: ProcessList,
    /// Percent; `null`: the driver does not tell.
    pub utilisation: Option<u32>,
    pub memory_utilisation: Option<u32>,
    /// Degrees Celsius.
    pub temperature: u32,
    pub power_milliwatts: u32,
    pub power_limit_milliwatts: u32,
    pub clocks: Clocks,
    /// Percent; `null`: the card has no fan.
    pub fan: Option<u32>,
    /// `null`: the memory has no error correction.
    pub ecc: Option<Ecc>,
    #[serde(default)]
    pub mig: Mig,
    /// Every call about the GPU answers `GPU_IS_LOST`, and CUDA does not find it.
    #[serde(default)]
    pub lost: bool,
    /// How long every call about the GPU takes. A wait ends early when this is lowered.
    #[serde(default)]
    pub hang_seconds: f64,
    /// Critical errors in the order in which they happened. One that is appended reaches whoever waits for events.
    #[serde(default)]
    pub xids: Vec<u64>,
}

/// The numbers are NVML's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    Pascal = 4,
    Volta = 5,
    Turing = 6,
    Ampere = 7,
    Ada = 8,
    Hopper = 9,
    Blackwell = 10,
}

/// How much the driver tells of a GPU's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryReport {
    /// Both versions of the call.
    #[default]
    V2,
    /// An old driver: the second version of the call does not exist.
    V1Only,
    /// The GPU uses the host's memory.
    NotSupported,
    /// WSL 2, where the second version fails.
    V2UnknownError,
    /// Neither version works.
    UnknownError,
}

/// What the driver tells of the processes on a GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessList {
    #[default]
    Full,
    /// Who, but not how much.
    WithoutMemory,
    /// Nobody, as in a container with its own process ids.
    Empty,
    /// Ids that mean nothing here: the host's, seen from a container.
    OtherNamespace,
    NotSupported,
}

/// MHz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clocks {
    pub sm: u32,
    pub memory: u32,
    pub max_sm: u32,
    pub max_memory: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ecc {
    pub enabled: bool,
    pub corrected: u64,
    pub uncorrected: u64,
    /// Bad rows of memory that the next reset replaces.
    pub remap_pending: bool,
    pub remap_failed: bool,
}

/// A process that is not one of ours. It stays until it is taken out of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalProcess {
    pub pid: u32,
    pub name: String,
    /// `null`: the driver does not tell; put what it uses under `unattributed`.
    pub bytes: Option<u64>,
    #[serde(default)]
    pub kind: ProcessKind,
    /// UUID of the MIG instance it runs on.
    #[serde(default)]
    pub instance: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessKind {
    #[default]
    Compute,
    Graphics,
    Mps,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mig {
    #[default]
    NotSupported,
    Disabled,
    /// Enabled, perhaps without any instance.
    Instances(Vec<MigInstance>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigInstance {
    pub uuid: String,
    /// Slices and memory, as in `1g.10gb`.
    pub profile: String,
    pub gpu_instance: u32,
    pub compute_instance: u32,
    pub total: u64,
    pub reserved: u64,
    pub sms: u32,
}

impl State {
    pub fn new(gpus: Vec<Gpu>) -> State {
        State {
            driver_version: "580.95.05".into(),
            cuda_version: 13000,
            gpus,
            init_error: None,
            init_seconds: 0.0,
            cuda: Cuda::default(),
        }
    }

    pub fn gpu(&self, uuid: &str) -> Option<&Gpu> {
        self.gpus.iter().find(|gpu| gpu.uuid == uuid)
    }

    pub fn gpu_mut(&mut self, uuid: &str) -> Option<&mut Gpu> {
        self.gpus.iter_mut().find(|gpu| gpu.uuid == uuid)
    }
}

impl Gpu {
    /// Empty unless MIG is enabled.
    pub fn instances(&self) -> &[MigInstance] {
        match &self.mig {
            Mig::Instances(instances) => instances,
            Mig::NotSupported | Mig::Disabled => &[],
        }
    }
}

impl ExternalProcess {
    pub fn compute(pid: u32, name: &str, bytes: u64) -> ExternalProcess {
        ExternalProcess { pid, name: name.into(), bytes: Some(bytes), kind: ProcessKind::Compute, instance: None }
    }

    pub fn graphics(pid: u32, name: &str, bytes: u64) -> ExternalProcess {
        ExternalProcess { kind: ProcessKind::Graphics, ..ExternalProcess::compute(pid, name, bytes) }
    }
}
