use std::collections::HashMap;
use std::sync::Arc;

use domain::{Clocks, Device, DeviceId, DeviceKind, DeviceMemory, Health, MigInstance, ProcessUse, Reading, Xid};
use jiff::Timestamp;
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::GpuVirtualizationMode as Virtualization;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use super::raw::{self, Events};
use super::{Fallen, Seen};
use crate::card::{Card, CardId, CardReading, Vendor};
use crate::kernel_log::pci_address;
use crate::picture::nameless;
use crate::process::{Processes, unattributed};
use crate::{Options, cpu, fault};

/// The GPU fell off the bus.
const XID_FALLEN: u64 = 79;

/// One GPU, or instead of it its MIG instances.
pub(super) struct NvidiaCard {
    nvml: Arc<Nvml>,
    number: u32,
    /// The GPU itself.
    device: Option<Device>,
    fallen: Fallen,
    seen: Seen,
    events: Option<Events>,
    /// The newest error of each GPU instance, and of the whole GPU under `None`.
    xids: HashMap<Option<u32>, Xid>,
    processes: Processes,
}

impl NvidiaCard {
    pub fn new(nvml: Arc<Nvml>, number: u32, fallen: Fallen, seen: Seen) -> NvidiaCard {
        let processes = Processes::default();
        NvidiaCard { nvml, number, device: None, fallen, seen, events: None, xids: HashMap::new(), processes }
    }
}

impl Card for NvidiaCard {
    fn read(&mut self, options: &Options, now: Timestamp) -> CardReading {
        let mut answer = CardReading::default();
        let nvml = self.nvml.clone();
        let error = match self.read_gpu(&nvml, options, now, &mut answer) {
            Ok(()) if !self.has_fallen() => {
                let devices = answer.readings.iter().map(|reading| reading.device.clone()).collect();
                self.seen.lock().expect("no holder panics").insert(self.number, devices);
                return answer;
            }
            Ok(()) => NvmlError::GpuLost,
            Err(error) => error,
        };
        // The library gives these handles up for good.
        answer.lost = matches!(error, NvmlError::GpuLost | NvmlError::Uninitialized | NvmlError::DriverNotLoaded);
        let finding = fault::device(&error);
        let health: HashMap<DeviceId, Health> =
            answer.readings.drain(..).map(|reading| (reading.device.id, reading.health)).collect();
        let unusable = |device: Device| {
            let health = health.get(&device.id).copied().unwrap_or_default();
            Reading { health, ..Reading::unusable(device, finding.clone(), now) }
        };
        answer.readings = self.last_devices().into_iter().map(unusable).collect();
        for reading in &mut answer.readings {
            reading.health.last_xid = reading.health.last_xid.or(self.xids.get(&None).copied());
        }
        answer
    }
}

impl NvidiaCard {
    fn read_gpu(
        &mut self,
        nvml: &Arc<Nvml>,
        options: &Options,
        now: Timestamp,
        answer: &mut CardReading,
    ) -> Result<(), NvmlError> {
        self.read_events(now);
        let gpu = nvml.device_by_index(self.number)?;
        let device = identify(&gpu)?;
        if self.device.as_ref().is_none_or(|known| known.id != device.id) {
            self.xids.clear();
            // Not every GPU reports events, and they are not worth more than its figures.
            self.events = Events::register(nvml, &gpu).ok();
        }
        self.device = Some(device.clone());
        answer.persistent = optional(gpu.is_in_persistent_mode())?;
        if optional(gpu.virtualization_mode())?.is_some_and(|mode| mode == Virtualization::Vgpu) {
            answer.findings.push(fault::vgpu(&device));
        }
        if mig_is_on(&gpu) {
            self.read_instances(&gpu, &device, options, now, answer);
            return Ok(());
        }
        let reading = self.read_figures(&gpu, device, options, now)?;
        if reading.health.row_remap_pending == Some(true) {
            answer.findings.push(fault::row_remap_pending(&reading.device));
        }
        answer.readings.push(reading);
        Ok(())
    }

    fn read_instances(
        &mut self,
        gpu: &nvml_wrapper::Device<'_>,
        parent: &Device,
        options: &Options,
        now: Timestamp,
        answer: &mut CardReading,
    ) {
        // The count is that of the slots; empty ones answer with an error.
        for slot in 0..gpu.mig_device_count().unwrap_or(0) {
            let Ok(instance) = gpu.mig_device_by_index(slot) else { continue };
            answer.readings.push(match identify_instance(&instance, parent) {
                Ok(device) => self
                    .read_figures(&instance, device.clone(), options, now)
                    .unwrap_or_else(|error| Reading::unusable(device, fault::device(&error), now)),
                Err(error) => {
                    let id = DeviceId(format!("{}/{slot}", parent.id));
                    Reading::unusable(Device { id, ..parent.clone() }, fault::device(&error), now)
                }
            });
        }
        let health = self.read_health(gpu).unwrap_or_default();
        for reading in &mut answer.readings {
            reading.health.row_remap_pending = health.row_remap_pending;
            reading.health.uncorrected_ecc_errors = health.uncorrected_ecc_errors;
            // The sensors are the card's.
            reading.temperature = optional(gpu.temperature(TemperatureSensor::Gpu)).ok().flatten();
        }
        if health.row_remap_pending == Some(true) {
            answer.findings.push(fault::row_remap_pending(parent));
        }
        if answer.readings.is_empty() {
            answer.readings.push(Reading::unusable(parent.clone(), fault::mig_without_instances(), now));
        }
    }

    /// Reads what changes. Only memory is indispensable, but a lost GPU is not read further.
    fn read_figures(
        &mut self,
        gpu: &nvml_wrapper::Device<'_>,
        mut device: Device,
        options: &Options,
        now: Timestamp,
    ) -> Result<Reading, NvmlError> {
        device.unified_memory = shares_host_memory(&device.name);
        let (memory, is_host_memory) = match read_memory(gpu, &device, options) {
            Ok(memory) => memory,
            Err(error) if stops_everything(&error) || matches!(error, NvmlError::NoPermission) => return Err(error),
            Err(error) => return Ok(Reading::unusable(device, fault::memory_unknown(&error), now)),
        };
        let (processes, are_all) = self.read_processes(gpu, options)?;
        let unattributed = unattributed(&memory, &processes).filter(|_| are_all && !is_host_memory);
        let instance = device.mig.as_ref().and_then(|mig| mig.gpu_instance);
        let xid = [self.xids.get(&instance), self.xids.get(&None)].into_iter().flatten().max_by_key(|xid| xid.at);
        let graphics = optional(gpu.clock_info(Clock::Graphics))?;
        let memory_clock = optional(gpu.clock_info(Clock::Memory))?;
        Ok(Reading {
            utilisation: optional(gpu.utilization_rates())?.map(|rates| rates.gpu),
            temperature: optional(gpu.temperature(TemperatureSensor::Gpu))?,
            power: optional(gpu.power_usage())?.map(|milliwatts| f64::from(milliwatts) / 1000.0),
            clocks: graphics.map(|graphics| Clocks { graphics, memory: memory_clock }),
            health: Health { last_xid: xid.copied(), ..self.read_health(gpu)? },
            processes,
            unattributed,
            ..Reading::usable(device, memory, now)
        })
    }

    /// What this card was when it could be read.
    fn last_devices(&self) -> Vec<Device> {
        let seen = self.seen.lock().expect("no holder panics").get(&self.number).cloned();
        let id = CardId { vendor: Vendor::Nvidia, number: self.number };
        seen.unwrap_or_else(|| vec![self.device.clone().unwrap_or_else(|| nameless(id))])
    }

    fn read_health(&self, gpu: &nvml_wrapper::Device<'_>) -> Result<Health, NvmlError> {
        Ok(Health {
            uncorrected_ecc_errors: optional(gpu.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile))?,
            row_remap_pending: optional(raw::row_remap_pending(gpu))?,
            last_xid: None,
        })
    }

    /// Compute and graphics processes; one that does both is listed once. `false`: the driver does not list them.
    fn read_processes(
        &mut self,
        gpu: &nvml_wrapper::Device<'_>,
        options: &Options,
    ) -> Result<(Vec<ProcessUse>, bool), NvmlError> {
        let mut uses: Vec<(u32, Option<u64>)> = Vec::new();
        let compute = optional(gpu.running_compute_processes())?;
        let graphics = optional(gpu.running_graphics_processes())?;
        let are_all = compute.is_some();
        for ProcessInfo { pid, used_gpu_memory, .. } in compute.into_iter().chain(graphics).flatten() {
            let bytes = match used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            };
            match uses.iter_mut().find(|(known, _)| *known == pid) {
                Some((_, known)) => *known = (*known).max(bytes),
                None => uses.push((pid, bytes)),
            }
        }
        Ok((self.processes.describe(&uses, options), are_all))
    }

    fn read_events(&mut self, now: Timestamp) {
        // A GPU that reports faster than this is read is lost anyway.
        const MOST: usize = 64;
        let Some(events) = &self.events else { return };
        for _ in 0..MOST {
            let Some(error) = events.next() else { break };
            self.xids.insert(error.gpu_instance, Xid { code: error.xid, at: now });
            if error.xid == XID_FALLEN
                && let Some(address) =
                    self.device.as_ref().and_then(|device| pci_address(device.pci_bus_id.as_deref()?))
            {
                self.fallen.lock().expect("no holder panics").insert(address);
            }
        }
    }

    fn has_fallen(&self) -> bool {
        let address = self.device.as_ref().and_then(|device| pci_address(device.pci_bus_id.as_deref()?));
        address.is_some_and(|address| self.fallen.lock().expect("no holder panics").contains(&address))
    }
}

fn identify(gpu: &nvml_wrapper::Device<'_>) -> Result<Device, NvmlError> {
    let name = optional(gpu.name())?.unwrap_or_else(|| "NVIDIA GPU".into());
    Ok(Device {
        pci_bus_id: optional(gpu.pci_info())?.map(|pci| pci.bus_id),
        architecture: optional(gpu.architecture())?
            .map(|architecture| format!("{architecture:?}"))
            .filter(|a| a != "Unknown"),
        unified_memory: shares_host_memory(&name),
        ..Device::new(gpu.uuid()?, DeviceKind::Nvidia, 0, name)
    })
}

fn identify_instance(instance: &nvml_wrapper::Device<'_>, parent: &Device) -> Result<Device, NvmlError> {
    let name = optional(instance.name())?.unwrap_or_else(|| parent.name.clone());
    let profile = match name.rsplit_once(" MIG ") {
        Some((_, profile)) => Some(profile.to_owned()),
        None => optional(instance.attributes())?.map(|attributes| {
            // Profiles are named for the memory rounded up.
            let gib = attributes.memory_size_mb.div_ceil(1024);
            format!("{}g.{gib}gb", attributes.gpu_instance_slice_count)
        }),
    };
    let mig = MigInstance {
        parent: parent.id.clone(),
        profile,
        gpu_instance: optional(raw::gpu_instance(instance))?,
        compute_instance: optional(raw::compute_instance(instance))?,
    };
    Ok(Device {
        pci_bus_id: parent.pci_bus_id.clone(),
        architecture: parent.architecture.clone(),
        mig: Some(mig),
        ..Device::new(instance.uuid()?, DeviceKind::Nvidia, 0, name)
    })
}

/// The driver's own figures, and whether they are the host's. Version 2 tells reserved memory apart; older drivers and
/// WSL have only version 1.
fn read_memory(
    gpu: &nvml_wrapper::Device<'_>,
    device: &Device,
    options: &Options,
) -> Result<(DeviceMemory, bool), NvmlError> {
    match gpu.memory_info() {
        Ok(info) => {
            let (total, used, free) = (info.total, info.used, info.free);
            return Ok((DeviceMemory { total, reserved: Some(info.reserved), used, free }, false));
        }
        Err(error) if stops_everything(&error) => return Err(error),
        Err(_) => {}
    }
    match raw::memory_v1(gpu) {
        // These share the host's memory, of which the driver knows nothing.
        Err(NvmlError::NotSupported) if device.unified_memory && device.mig.is_none() => {
            let meminfo = std::fs::read_to_string(options.path("proc/meminfo")).ok();
            let memory = meminfo.and_then(|text| cpu::memory(&text)).ok_or(NvmlError::NotSupported)?;
            Ok((memory, true))
        }
        result => Ok((result?, false)),
    }
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
        Err(error) if stops_everything(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Nothing else about this GPU can be right.
fn stops_everything(error: &NvmlError) -> bool {
    use NvmlError as E;
    matches!(error, E::GpuLost | E::ResetRequired | E::Uninitialized | E::DriverNotLoaded | E::InsufficientPower)
}

#[cfg(test)]
mod tests {
    use super::*;

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
