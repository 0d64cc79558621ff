//! Which devices there are and what they are.

use std::ffi::{c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings as sys;

use super::{
    code::{Code, Result},
    exports,
    handle::{Device, Handle, state},
    system::text,
};
use crate::{
    ffi::{Out, Text},
    state::Gpu,
};

exports! {
    fn nvmlDeviceGetCount(count: Out<c_uint>) { Ok(count.set(state()?.gpus.len() as c_uint)?) }
    fn nvmlDeviceGetCount_v2(count: Out<c_uint>) { Ok(count.set(state()?.gpus.len() as c_uint)?) }
    fn nvmlDeviceGetHandleByIndex(index: c_uint, device: Out<Handle>) { by_index(index, device) }
    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: Out<Handle>) { by_index(index, device) }
    fn nvmlDeviceGetHandleByUUID(uuid: Text, device: Out<Handle>) {
        let found = Device::find(&uuid.get()?)?.ok_or(Code::NOT_FOUND)?;
        Ok(device.set(found.handle())?)
    }
    fn nvmlDeviceGetHandleByPciBusId(bus_id: Text, device: Out<Handle>) { by_bus_id(&bus_id.get()?, device) }
    fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: Text, device: Out<Handle>) { by_bus_id(&bus_id.get()?, device) }

    fn nvmlDeviceGetIndex(device: Handle, index: Out<c_uint>) { Ok(index.set(device.device()?.index as c_uint)?) }
    fn nvmlDeviceGetMinorNumber(device: Handle, number: Out<c_uint>) {
        let device = device.device()?;
        match device.instance() {
            None => Ok(number.set(device.index as c_uint)?),
            Some(_) => Err(Code::NOT_SUPPORTED),
        }
    }
    fn nvmlDeviceGetUUID(device: Handle, uuid: Out<c_char>, length: c_uint) {
        let device = device.device()?;
        text(uuid, length, device.instance().map_or(&device.gpu().uuid, |instance| &instance.uuid))
    }
    fn nvmlDeviceGetName(device: Handle, name: Out<c_char>, length: c_uint) {
        let device = device.device()?;
        let gpu = &device.gpu().name;
        match device.instance() {
            None => text(name, length, gpu),
            Some(instance) => text(name, length, &format!("{gpu} MIG {}", instance.profile)),
        }
    }
    fn nvmlDeviceGetBrand(device: Handle, brand: Out<sys::nvmlBrandType_t>) {
        let name = device.device()?.gpu().name.clone();
        Ok(brand.set(match name {
            name if name.contains("GeForce") => sys::nvmlBrandType_enum_NVML_BRAND_GEFORCE,
            name if name.contains("RTX") => sys::nvmlBrandType_enum_NVML_BRAND_NVIDIA_RTX,
            name if name.contains("Tesla") => sys::nvmlBrandType_enum_NVML_BRAND_TESLA,
            _ => sys::nvmlBrandType_enum_NVML_BRAND_NVIDIA,
        })?)
    }
    fn nvmlDeviceGetArchitecture(device: Handle, architecture: Out<c_uint>) {
        Ok(architecture.set(device.device()?.gpu().architecture as c_uint)?)
    }
    fn nvmlDeviceGetCudaComputeCapability(device: Handle, major: Out<c_int>, minor: Out<c_int>) {
        let [first, second] = device.device()?.gpu().compute_capability;
        major.set(first)?;
        Ok(minor.set(second)?)
    }
    fn nvmlDeviceGetNumGpuCores(device: Handle, cores: Out<c_uint>) { Ok(cores.set(device.gpu()?.sms * 128)?) }
    fn nvmlDeviceGetPciInfo(device: Handle, pci: Out<sys::nvmlPciInfo_t>) { pci_info(device, pci) }
    fn nvmlDeviceGetPciInfo_v2(device: Handle, pci: Out<sys::nvmlPciInfo_t>) { pci_info(device, pci) }
    fn nvmlDeviceGetPciInfo_v3(device: Handle, pci: Out<sys::nvmlPciInfo_t>) { pci_info(device, pci) }
    /// Only cards for computing centres have one.
    fn nvmlDeviceGetSerial(device: Handle, serial: Out<c_char>, length: c_uint) {
        let gpu = device.gpu()?;
        let Some(digits) = gpu.ecc.and(gpu.uuid.get(gpu.uuid.len().saturating_sub(8)..)) else {
            return Err(Code::NOT_SUPPORTED);
        };
        text(serial, length, &format!("16500{digits}"))
    }
    fn nvmlDeviceGetVbiosVersion(device: Handle, version: Out<c_char>, length: c_uint) {
        device.gpu()?;
        text(version, length, "96.00.99.00.01")
    }
    fn nvmlDeviceGetVirtualizationMode(device: Handle, mode: Out<c_uint>) {
        device.gpu()?;
        Ok(mode.set(sys::nvmlGpuVirtualizationMode_NVML_GPU_VIRTUALIZATION_MODE_NONE)?)
    }
}

fn by_index(index: c_uint, device: Out<Handle>) -> Result<()> {
    let state = state()?;
    let gpu = state.gpus.get(index as usize).ok_or(Code::INVALID_ARGUMENT)?;
    reach(gpu, device)
}

/// With or without leading zeros of the domain.
fn by_bus_id(wanted: &str, device: Out<Handle>) -> Result<()> {
    let state = state()?;
    let wanted = wanted.trim_start_matches('0').to_ascii_uppercase();
    let has_id = |gpu: &&Gpu| gpu.pci_bus_id.trim_start_matches('0').eq_ignore_ascii_case(&wanted);
    reach(state.gpus.iter().find(has_id).ok_or(Code::NOT_FOUND)?, device)
}

fn reach(gpu: &Gpu, device: Out<Handle>) -> Result<()> {
    let handle = Handle::of(&gpu.uuid);
    handle.device()?;
    Ok(device.set(handle)?)
}

fn pci_info(device: Handle, pci: Out<sys::nvmlPciInfo_t>) -> Result<()> {
    const NVIDIA: c_uint = 0x10de;
    let gpu = device.device()?.gpu().clone();
    let mut parts = gpu.pci_bus_id.split([':', '.']).map(|part| c_uint::from_str_radix(part, 16));
    let mut part = || parts.next().and_then(|part| part.ok()).ok_or(Code::UNKNOWN);
    let (domain, bus, slot) = (part()?, part()?, part()?);
    let id = c_uint::from(gpu.pci_device_id) << 16 | NVIDIA;
    Ok(pci.set(sys::nvmlPciInfo_t {
        busIdLegacy: array(&format!("{domain:04X}:{bus:02X}:{slot:02X}.0")),
        domain,
        bus,
        device: slot,
        pciDeviceId: id,
        pciSubSystemId: id,
        busId: array(&format!("{domain:08X}:{bus:02X}:{slot:02X}.0")),
    })?)
}

fn array<const LENGTH: usize>(text: &str) -> [c_char; LENGTH] {
    let mut array = [0; LENGTH];
    for (to, byte) in array.iter_mut().zip(text.bytes()) {
        *to = byte as c_char;
    }
    array
}
