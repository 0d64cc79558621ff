//! What is measured: memory, load, heat, power, clocks, errors.

use std::ffi::{c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as sys;

use super::{
    code::{Code, Result},
    exports,
    handle::{Device, Handle},
};
use crate::{
    ffi::Out,
    state::{Architecture, Ecc, MemoryReport, Mig},
};

exports! {
    /// What is reserved counts as used.
    fn nvmlDeviceGetMemoryInfo(device: Handle, memory: Out<sys::nvmlMemory_t>) {
        let device = device.device()?;
        match device.gpu().memory {
            MemoryReport::NotSupported => return Err(Code::NOT_SUPPORTED),
            MemoryReport::UnknownError => return Err(Code::UNKNOWN),
            MemoryReport::V2 | MemoryReport::V1Only | MemoryReport::V2UnknownError => {}
        }
        let usage = device.usage();
        Ok(memory.set(sys::nvmlMemory_t { total: usage.total, free: usage.free, used: usage.used + usage.reserved })?)
    }
    /// What is reserved is told apart.
    fn nvmlDeviceGetMemoryInfo_v2(device: Handle, memory: Out<sys::nvmlMemory_v2_t>) {
        const VERSION: c_uint = size_of::<sys::nvmlMemory_v2_t>() as c_uint | 2 << 24;
        let device = device.device()?;
        match device.gpu().memory {
            MemoryReport::V2 => {}
            MemoryReport::V1Only => return Err(Code::FUNCTION_NOT_FOUND),
            MemoryReport::NotSupported => return Err(Code::NOT_SUPPORTED),
            MemoryReport::UnknownError | MemoryReport::V2UnknownError => return Err(Code::UNKNOWN),
        }
        if memory.get()?.version != VERSION {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        let usage = device.usage();
        Ok(memory.set(sys::nvmlMemory_v2_t {
            version: VERSION,
            total: usage.total,
            reserved: usage.reserved,
            free: usage.free,
            used: usage.used,
        })?)
    }
    fn nvmlDeviceGetBAR1MemoryInfo(device: Handle, memory: Out<sys::nvmlBAR1Memory_t>) {
        let total = device.device()?.gpu().total.next_power_of_two();
        let used = 1 << 20;
        Ok(memory.set(sys::nvmlBAR1Memory_t { bar1Total: total, bar1Free: total - used, bar1Used: used })?)
    }
    fn nvmlDeviceGetUtilizationRates(device: Handle, rates: Out<sys::nvmlUtilization_t>) {
        let gpu = device.gpu()?;
        match (gpu.mig, gpu.utilisation) {
            (Mig::Instances(_), _) | (_, None) => Err(Code::NOT_SUPPORTED),
            (_, Some(load)) => {
                let memory = gpu.memory_utilisation.unwrap_or(0);
                Ok(rates.set(sys::nvmlUtilization_t { gpu: load, memory })?)
            }
        }
    }
    fn nvmlDeviceGetTemperature(device: Handle, sensor: c_uint, celsius: Out<c_uint>) {
        Ok(celsius.set(temperature(device, sensor)?)?)
    }
    fn nvmlDeviceGetTemperatureV(device: Handle, celsius: Out<sys::nvmlTemperature_t>) {
        const VERSION: c_uint = size_of::<sys::nvmlTemperature_t>() as c_uint | 1 << 24;
        let asked = celsius.get()?;
        if asked.version != VERSION {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        let temperature = temperature(device, asked.sensorType)? as c_int;
        Ok(celsius.set(sys::nvmlTemperature_t { temperature, ..asked })?)
    }
    fn nvmlDeviceGetFanSpeed(device: Handle, percent: Out<c_uint>) { fan(device, percent) }
    fn nvmlDeviceGetFanSpeed_v2(device: Handle, _fan: c_uint, percent: Out<c_uint>) { fan(device, percent) }
    fn nvmlDeviceGetNumFans(device: Handle, count: Out<c_uint>) {
        Ok(count.set(c_uint::from(device.gpu()?.fan.is_some()))?)
    }
    fn nvmlDeviceGetPowerUsage(device: Handle, milliwatts: Out<c_uint>) {
        Ok(milliwatts.set(device.gpu()?.power_milliwatts)?)
    }
    fn nvmlDeviceGetEnforcedPowerLimit(device: Handle, milliwatts: Out<c_uint>) {
        Ok(milliwatts.set(device.gpu()?.power_limit_milliwatts)?)
    }
    fn nvmlDeviceGetPowerManagementLimit(device: Handle, milliwatts: Out<c_uint>) {
        Ok(milliwatts.set(device.gpu()?.power_limit_milliwatts)?)
    }
    fn nvmlDeviceGetClockInfo(device: Handle, clock: c_uint, mhz: Out<c_uint>) {
        let clocks = device.gpu()?.clocks;
        Ok(mhz.set(choose(clock, clocks.sm, clocks.memory)?)?)
    }
    fn nvmlDeviceGetMaxClockInfo(device: Handle, clock: c_uint, mhz: Out<c_uint>) {
        let clocks = device.gpu()?.clocks;
        Ok(mhz.set(choose(clock, clocks.max_sm, clocks.max_memory)?)?)
    }
    /// Full speed when there is work, idle otherwise.
    fn nvmlDeviceGetPerformanceState(device: Handle, state: Out<c_uint>) {
        Ok(state.set(if device.gpu()?.utilisation > Some(0) { 0 } else { 8 })?)
    }
    fn nvmlDeviceGetPersistenceMode(device: Handle, mode: Out<c_uint>) {
        device.gpu()?;
        Ok(mode.set(sys::nvmlEnableState_enum_NVML_FEATURE_ENABLED)?)
    }
    fn nvmlDeviceGetComputeMode(device: Handle, mode: Out<c_uint>) {
        device.gpu()?;
        Ok(mode.set(sys::nvmlComputeMode_enum_NVML_COMPUTEMODE_DEFAULT)?)
    }
    fn nvmlDeviceGetDisplayActive(device: Handle, active: Out<c_uint>) {
        device.gpu()?;
        Ok(active.set(sys::nvmlEnableState_enum_NVML_FEATURE_DISABLED)?)
    }
    fn nvmlDeviceGetDisplayMode(device: Handle, mode: Out<c_uint>) {
        device.gpu()?;
        Ok(mode.set(sys::nvmlEnableState_enum_NVML_FEATURE_DISABLED)?)
    }
    fn nvmlDeviceGetEccMode(device: Handle, current: Out<c_uint>, pending: Out<c_uint>) {
        let enabled = c_uint::from(ecc(&device.device()?)?.enabled);
        current.set(enabled)?;
        Ok(pending.set(enabled)?)
    }
    fn nvmlDeviceGetTotalEccErrors(device: Handle, kind: c_uint, _counter: c_uint, count: Out<c_ulonglong>) {
        let ecc = ecc(&device.device()?)?;
        if !ecc.enabled {
            return Err(Code::NOT_SUPPORTED);
        }
        Ok(count.set(match kind {
            sys::nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_CORRECTED => ecc.corrected,
            sys::nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_UNCORRECTED => ecc.uncorrected,
            _ => return Err(Code::INVALID_ARGUMENT),
        })?)
    }
    /// Up to Turing; later GPUs remap rows instead.
    fn nvmlDeviceGetRetiredPagesPendingStatus(device: Handle, pending: Out<c_uint>) {
        let device = device.device()?;
        if device.gpu().architecture >= Architecture::Ampere {
            return Err(Code::NOT_SUPPORTED);
        }
        Ok(pending.set(c_uint::from(ecc(&device)?.remap_pending))?)
    }
    fn nvmlDeviceGetRemappedRows(
        device: Handle,
        corrected: Out<c_uint>,
        uncorrected: Out<c_uint>,
        pending: Out<c_uint>,
        failed: Out<c_uint>,
    ) {
        let device = device.device()?;
        if device.gpu().architecture < Architecture::Ampere {
            return Err(Code::NOT_SUPPORTED);
        }
        let ecc = ecc(&device)?;
        corrected.set(0)?;
        uncorrected.set(c_uint::try_from(ecc.uncorrected).unwrap_or(c_uint::MAX))?;
        pending.set(c_uint::from(ecc.remap_pending))?;
        Ok(failed.set(c_uint::from(ecc.remap_failed))?)
    }
}

fn temperature(device: Handle, sensor: c_uint) -> Result<u32> {
    match sensor {
        sys::nvmlTemperatureSensors_enum_NVML_TEMPERATURE_GPU => Ok(device.gpu()?.temperature),
        _ => Err(Code::INVALID_ARGUMENT),
    }
}

fn fan(device: Handle, percent: Out<c_uint>) -> Result<()> {
    Ok(percent.set(device.gpu()?.fan.ok_or(Code::NOT_SUPPORTED)?)?)
}

fn choose(clock: c_uint, sm: u32, memory: u32) -> Result<u32> {
    match clock {
        sys::nvmlClockType_enum_NVML_CLOCK_GRAPHICS
        | sys::nvmlClockType_enum_NVML_CLOCK_SM
        | sys::nvmlClockType_enum_NVML_CLOCK_VIDEO => Ok(sm),
        sys::nvmlClockType_enum_NVML_CLOCK_MEM => Ok(memory),
        _ => Err(Code::INVALID_ARGUMENT),
    }
}

fn ecc(device: &Device) -> Result<Ecc> {
    device.gpu().ecc.ok_or(Code::NOT_SUPPORTED)
}
