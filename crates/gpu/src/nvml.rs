//! NVIDIA GPUs through the driver's own library, loaded at run time.

use std::collections::HashMap;
use std::mem;
use std::path::PathBuf;

use domain::{Device, DeviceId, DeviceKind, DeviceMemory, Finding, Inventory, ProcessUse, Reading};
use jiff::Timestamp;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::{NvmlError, nvml_try};
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use crate::backend::finding;
use crate::process::Processes;
use crate::{Backend, CpuBackend, cpu, fault};

/// NVIDIA GPUs and their MIG instances. Without any, the CPU stands in and a finding says why.
pub struct NvmlBackend {
    library: Option<PathBuf>,
    nvml: Option<Nvml>,
    seen: Seen,
}

/// What outlives a sweep.
#[derive(Default)]
struct Seen {
    /// By the driver's index, so that a GPU that is lost keeps its name and UUID.
    devices: HashMap<u32, Device>,
    processes: Processes,
}

impl NvmlBackend {
    /// `library`: path of the NVIDIA library; `None`: `libnvidia-ml.so.1` where the system's loader finds it.
    pub fn new(library: Option<PathBuf>) -> NvmlBackend {
        NvmlBackend { library, nvml: None, seen: Seen::default() }
    }

    fn readings(&mut self) -> Result<Vec<Reading>, NvmlError> {
        // A driver can be installed, loaded or repaired while the studio runs: a library that failed is tried again.
        let nvml = match self.nvml.take() {
            Some(nvml) => nvml,
            None => match &self.library {
                Some(path) => Nvml::builder().lib_path(path.as_os_str()).init()?,
                None => Nvml::init()?,
            },
        };
        let count = nvml.device_count()?;
        let mut readings = Vec::new();
        for index in 0..count {
            self.seen.read_gpu(&nvml, index, &mut readings);
        }
        self.nvml = Some(nvml);
        for (position, reading) in readings.iter_mut().enumerate() {
            reading.device.index = position as u32;
        }
        Ok(readings)
    }
}

impl Backend for NvmlBackend {
    fn sweep(&mut self, now: Timestamp) -> Inventory {
        let (finding, detection_error) = match self.readings() {
            Ok(devices) if !devices.is_empty() => {
                return Inventory { taken_at: now, devices, findings: Vec::new(), detection_error: None };
            }
            Ok(_) => (no_gpu(), None),
            Err(error) if library_is_absent(&error) => (no_driver(), None),
            Err(error) => {
                let finding = fault::detection(&error);
                let text = finding.zh.clone();
                (finding, Some(text))
            }
        };
        let stand_in = CpuBackend::new(vec![finding]).sweep(now);
        Inventory { detection_error, ..stand_in }
    }
}

impl Seen {
    /// Reads one GPU, or instead of it its MIG instances.
    fn read_gpu(&mut self, nvml: &Nvml, index: u32, readings: &mut Vec<Reading>) {
        let result = nvml.device_by_index(index).and_then(|gpu| {
            let device = identify(&gpu)?;
            self.devices.insert(index, device.clone());
            if mig_is_on(&gpu) {
                readings.extend(self.read_instances(&gpu, &device));
            } else {
                readings.push(self.read(&gpu, device)?);
            }
            Ok(())
        });
        if let Err(error) = result {
            let device = self.devices.get(&index).cloned().unwrap_or_else(|| nameless(index));
            readings.push(unusable(device, fault::device(&error)));
        }
    }

    fn read_instances(&mut self, gpu: &nvml_wrapper::Device<'_>, parent: &Device) -> Vec<Reading> {
        let mut readings = Vec::new();
        // The count is that of the slots; empty ones answer with an error.
        for slot in 0..gpu.mig_device_count().unwrap_or(0) {
            let Ok(instance) = gpu.mig_device_by_index(slot) else { continue };
            let result = identify(&instance).and_then(|device| {
                let device = Device { pci_bus_id: parent.pci_bus_id.clone(), ..device };
                self.read(&instance, device)
            });
            readings.push(result.unwrap_or_else(|error| {
                let id = DeviceId(format!("{}/{slot}", parent.id));
                unusable(Device { id, ..parent.clone() }, fault::device(&error))
            }));
        }
        if readings.is_empty() {
            readings.push(unusable(parent.clone(), mig_without_instances()));
        }
        readings
    }

    /// Reads what changes. Only memory is indispensable, but a lost GPU is not read further.
    fn read(&mut self, gpu: &nvml_wrapper::Device<'_>, device: Device) -> Result<Reading, NvmlError> {
        let memory = read_memory(gpu, &device.name)?;
        Ok(Reading {
            utilisation: optional(gpu.utilization_rates())?.map(|rates| rates.gpu),
            temperature: optional(gpu.temperature(TemperatureSensor::Gpu))?,
            power: optional(gpu.power_usage())?.map(|milliwatts| f64::from(milliwatts) / 1000.0),
            processes: self.read_processes(gpu)?,
            ..Reading::usable(device, memory, Timestamp::now())
        })
    }

    /// Compute and graphics processes; one that does both is listed once.
    fn read_processes(&mut self, gpu: &nvml_wrapper::Device<'_>) -> Result<Vec<ProcessUse>, NvmlError> {
        let mut processes: Vec<ProcessUse> = Vec::new();
        let compute = optional(gpu.running_compute_processes())?.unwrap_or_default();
        let graphics = optional(gpu.running_graphics_processes())?.unwrap_or_default();
        for ProcessInfo { pid, used_gpu_memory, .. } in compute.into_iter().chain(graphics) {
            let bytes = match used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            };
            match processes.iter_mut().find(|process| process.pid == pid) {
                Some(known) => known.bytes = known.bytes.max(bytes),
                None => processes.push(self.processes.describe(pid, bytes)),
            }
        }
        Ok(processes)
    }
}

fn identify(gpu: &nvml_wrapper::Device<'_>) -> Result<Device, NvmlError> {
    let name = optional(gpu.name())?.unwrap_or_else(|| "NVIDIA GPU".into());
    Ok(Device {
        pci_bus_id: optional(gpu.pci_info())?.map(|pci| pci.bus_id),
        ..Device::new(gpu.uuid()?, DeviceKind::Nvidia, 0, name)
    })
}

/// A GPU that never told its UUID; nothing is ever placed on it.
fn nameless(index: u32) -> Device {
    Device::new(format!("UNREADABLE-{index}"), DeviceKind::Nvidia, index, format!("NVIDIA GPU {index}"))
}

/// The driver's own figures. Version 2 tells reserved memory apart; older drivers and WSL have only version 1.
fn read_memory(gpu: &nvml_wrapper::Device<'_>, name: &str) -> Result<DeviceMemory, NvmlError> {
    let error = match gpu.memory_info() {
        Ok(info) => {
            let (total, used, free) = (info.total, info.used, info.free);
            return Ok(DeviceMemory { total, reserved: Some(info.reserved), used, free });
        }
        Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => return Err(error),
        Err(error) => error,
    };
    match read_memory_v1(gpu) {
        // These share the host's memory, of which the driver knows nothing.
        Err(NvmlError::NotSupported) if shares_host_memory(name) => {
            let meminfo = std::fs::read_to_string("/proc/meminfo").ok();
            meminfo.and_then(|text| cpu::memory(&text)).ok_or(error)
        }
        result => result,
    }
}

fn read_memory_v1(gpu: &nvml_wrapper::Device<'_>) -> Result<DeviceMemory, NvmlError> {
    let function = gpu.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref();
    let function = function.map_err(|error| NvmlError::FailedToLoadSymbol(error.to_string()))?;
    // SAFETY: the struct is three integers, for which zero is a value; the handle belongs to the library that the
    // function is from, and both are alive as long as `gpu`.
    let info = unsafe {
        let mut info = mem::zeroed();
        nvml_try(function(gpu.handle(), &mut info))?;
        info
    };
    Ok(DeviceMemory { total: info.total, reserved: None, used: info.used, free: info.free })
}

/// Chips on which CPU and GPU use the same memory: the Grace Blackwell desktop chip and the Jetson family.
fn shares_host_memory(name: &str) -> bool {
    let chips = ["GB10", "Xavier", "Orin", "Thor", "Tegra"];
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| chips.contains(&word))
}

fn mig_is_on(gpu: &nvml_wrapper::Device<'_>) -> bool {
    gpu.mig_mode().is_ok_and(|mode| mode.current == 1)
}

/// Not every GPU knows every figure; only a GPU that is gone is an error.
fn optional<T>(result: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => Err(error),
        Err(_) => Ok(None),
    }
}

fn unusable(device: Device, finding: Finding) -> Reading {
    Reading::unusable(device, finding, Timestamp::now())
}

/// There simply is no library, as on every machine without the driver.
fn library_is_absent(error: &NvmlError) -> bool {
    matches!(error, NvmlError::LibloadingError(error) if error.to_string().contains("No such file"))
}

fn no_driver() -> Finding {
    finding(
        "no-nvidia-driver",
        "未找到 NVIDIA 驱动，改用 CPU。如果本机有 NVIDIA GPU，请安装驱动（容器中请使用 --gpus all），之后会自动检测到。",
        "No NVIDIA driver was found, so the CPU is used. If the machine has an NVIDIA GPU, install its driver (in a \
         container, pass --gpus all); it is then found by itself.",
    )
}

fn no_gpu() -> Finding {
    finding(
        "no-nvidia-gpu",
        "NVIDIA 驱动正常，但没有 GPU，改用 CPU。请用 nvidia-smi -L 检查；在容器中请使用 --gpus all。",
        "The NVIDIA driver works but reports no GPU, so the CPU is used. Check with nvidia-smi -L; in a container, pass \
         --gpus all.",
    )
}

fn mig_without_instances() -> Finding {
    finding(
        "mig-without-instances",
        "GPU 已启用 MIG，但没有可用的实例。请用 nvidia-smi mig -cgi … -C 创建实例，或用 nvidia-smi -mig 0 关闭 MIG。",
        "MIG is on but the GPU has no instances. Create some with nvidia-smi mig -cgi … -C, or switch MIG off with \
         nvidia-smi -mig 0.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_library_the_cpu_stands_in_and_a_finding_says_why() {
        let mut backend = NvmlBackend::new(Some("/nonexistent/libnvidia-ml.so.1".into()));
        let inventory = backend.sweep(Timestamp::UNIX_EPOCH);
        assert_eq!(inventory.detection_error, None, "no driver is not an error");
        assert_eq!(inventory.findings[0].code, "no-nvidia-driver");
        assert_eq!(inventory.devices.len(), 1);
        assert_eq!(inventory.devices[0].device.kind, DeviceKind::Cpu);
    }

    #[test]
    fn a_library_that_is_none_is_an_error_with_a_next_step() {
        let file = std::env::temp_dir().join(format!("not-a-library-{}", std::process::id()));
        std::fs::write(&file, "text").unwrap();
        let inventory = NvmlBackend::new(Some(file.clone())).sweep(Timestamp::UNIX_EPOCH);
        std::fs::remove_file(file).unwrap();
        assert_eq!(inventory.findings[0].code, "nvml-broken");
        assert_eq!(inventory.detection_error.as_deref(), Some(inventory.findings[0].zh.as_str()));
        assert_eq!(inventory.gpus().count(), 0);
    }

    #[test]
    fn a_lost_gpu_is_an_error_and_a_missing_figure_is_not() {
        assert!(matches!(optional::<u32>(Err(NvmlError::NotSupported)), Ok(None)));
        assert!(matches!(optional(Ok(5)), Ok(Some(5))));
        assert!(optional::<u32>(Err(NvmlError::GpuLost)).is_err());
    }

    #[test]
    fn only_chips_known_for_it_share_host_memory() {
        assert!(shares_host_memory("NVIDIA GB10"));
        assert!(!shares_host_memory("NVIDIA A100-SXM4-40GB"));
        assert!(!shares_host_memory("NVIDIA GB100"), "a data-centre chip with its own memory");
    }
}
