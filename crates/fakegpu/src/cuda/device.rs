//! Driver and devices.

use std::ffi::{c_char, c_int, c_uint};

use super::{
    code::{Code, Result},
    exports, process,
};
use crate::{
    Folder,
    ffi::Out,
    state::{Gpu, MemoryReport, MigInstance},
};

/// `CUdevice`.
pub type Ordinal = c_int;

/// `CUdevice_attribute`, those that matter here.
mod attribute {
    use std::ffi::c_int;

    pub const WARP_SIZE: c_int = 10;
    pub const CLOCK_RATE_KHZ: c_int = 13;
    pub const MULTIPROCESSOR_COUNT: c_int = 16;
    pub const INTEGRATED: c_int = 18;
    pub const ECC_ENABLED: c_int = 32;
    pub const PCI_BUS_ID: c_int = 33;
    pub const PCI_DEVICE_ID: c_int = 34;
    pub const UNIFIED_ADDRESSING: c_int = 41;
    pub const PCI_DOMAIN_ID: c_int = 50;
    pub const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
    pub const COMPUTE_CAPABILITY_MINOR: c_int = 76;
}

exports! {
    fn cuInit(flags: c_uint) {
        if flags != 0 {
            return Err(Code::INVALID_VALUE);
        }
        process::initialise()
    }
    /// Works before `cuInit`, as the real one does.
    fn cuDriverGetVersion(version: Out<c_int>) {
        let state = Folder::from_env().and_then(|folder| folder.state_after(|_| 0.0)).ok_or(Code::UNKNOWN)?;
        Ok(version.set(state.cuda_version)?)
    }
    fn cuDeviceGetCount(count: Out<c_int>) {
        process::with(|process| Ok(count.set(process.devices.len() as c_int)?))
    }
    fn cuDeviceGet(device: Out<Ordinal>, ordinal: c_int) {
        process::with(|process| {
            process.devices.get(index(ordinal)?).ok_or(Code::INVALID_DEVICE)?;
            Ok(device.set(ordinal)?)
        })
    }
    fn cuDeviceGetName(name: Out<c_char>, length: c_int, device: Ordinal) {
        let text = of(device, |gpu, instance| match instance {
            None => gpu.name.clone(),
            Some(instance) => format!("{} MIG {}", gpu.name, instance.profile),
        })?;
        let capacity = usize::try_from(length).map_err(|_| Code::INVALID_VALUE)?;
        let kept = text.get(..capacity.saturating_sub(1)).unwrap_or(&text);
        if name.set_text(capacity, kept) { Ok(()) } else { Err(Code::INVALID_VALUE) }
    }
    /// That of the GPU, even for an instance.
    fn cuDeviceGetUuid(uuid: Out<[u8; 16]>, device: Ordinal) {
        Ok(uuid.set(of(device, |gpu, _| bytes_of(&gpu.uuid))?)?)
    }
    /// That of the instance, if it is one.
    fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: Ordinal) {
        Ok(uuid.set(of(device, |gpu, instance| bytes_of(instance.map_or(&gpu.uuid, |instance| &instance.uuid)))?)?)
    }
    /// Without what is reserved.
    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: Ordinal) {
        let total = of(device, |gpu, instance| match instance {
            None => gpu.total - gpu.reserved,
            Some(instance) => instance.total - instance.reserved,
        })?;
        Ok(bytes.set(total as usize)?)
    }
    fn cuDeviceGetAttribute(value: Out<c_int>, attribute: c_int, device: Ordinal) {
        Ok(value.set(of(device, |gpu, instance| describe(attribute, gpu, instance))??)?)
    }
}

/// Ordinals are small and not negative.
pub fn index(ordinal: Ordinal) -> Result<usize> {
    usize::try_from(ordinal).map_err(|_| Code::INVALID_DEVICE)
}

fn of<T>(device: Ordinal, look: impl FnOnce(&Gpu, Option<&MigInstance>) -> T) -> Result<T> {
    process::with(|process| {
        let view = process.view(index(device)?)?;
        Ok(look(view.gpu(), view.instance()))
    })
}

fn describe(name: c_int, gpu: &Gpu, instance: Option<&MigInstance>) -> Result<c_int> {
    let mut address = gpu.pci_bus_id.split([':', '.']).map(|part| c_int::from_str_radix(part, 16).unwrap_or(0));
    let mut address = || address.next().unwrap_or(0);
    let (domain, bus, slot) = (address(), address(), address());
    Ok(match name {
        attribute::WARP_SIZE => 32,
        attribute::CLOCK_RATE_KHZ => gpu.clocks.max_sm as c_int * 1000,
        attribute::MULTIPROCESSOR_COUNT => instance.map_or(gpu.sms, |instance| instance.sms) as c_int,
        attribute::INTEGRATED => c_int::from(gpu.memory == MemoryReport::NotSupported),
        attribute::ECC_ENABLED => c_int::from(gpu.ecc.is_some_and(|ecc| ecc.enabled)),
        attribute::PCI_BUS_ID => bus,
        attribute::PCI_DEVICE_ID => slot,
        attribute::UNIFIED_ADDRESSING => 1,
        attribute::PCI_DOMAIN_ID => domain,
        attribute::COMPUTE_CAPABILITY_MAJOR => gpu.compute_capability[0],
        attribute::COMPUTE_CAPABILITY_MINOR => gpu.compute_capability[1],
        _ => return Err(Code::INVALID_VALUE),
    })
}

/// Of the hexadecimal digits after `GPU-` or `MIG-`; what is missing is zero.
fn bytes_of(uuid: &str) -> [u8; 16] {
    let digits: Vec<u8> = uuid.chars().skip(4).filter_map(|c| Some(c.to_digit(16)? as u8)).collect();
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = pair[0] << 4 | pair.get(1).copied().unwrap_or(0);
    }
    bytes
}
