//! Functions of the library that the wrapper lacks or narrows.

use std::mem;
use std::sync::Arc;

use domain::DeviceMemory;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t};

/// Version 1 of the memory call, in which `used` contains what is reserved.
pub(super) fn memory_v1(gpu: &Device<'_>) -> Result<DeviceMemory, NvmlError> {
    let function = nvml_sym(gpu.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    // SAFETY: the struct is three integers, for which zero is a value; the handle belongs to the library that the
    // function is from, and both are alive as long as `gpu`.
    let info = unsafe {
        let mut info = mem::zeroed();
        nvml_try(function(gpu.handle(), &mut info))?;
        info
    };
    Ok(DeviceMemory { total: info.total, reserved: None, used: info.used, free: info.free })
}

/// Whether rows of memory wait to be replaced at the next reset.
pub(super) fn row_remap_pending(gpu: &Device<'_>) -> Result<bool, NvmlError> {
    let function = nvml_sym(gpu.nvml().lib().nvmlDeviceGetRemappedRows.as_ref())?;
    let (mut corrected, mut uncorrected, mut pending, mut failed) = (0, 0, 0, 0);
    // SAFETY: four integers of the caller's; the handle is alive as long as `gpu`.
    unsafe { nvml_try(function(gpu.handle(), &mut corrected, &mut uncorrected, &mut pending, &mut failed))? };
    Ok(pending != 0)
}

/// GPU instance of a MIG device.
pub(super) fn gpu_instance(instance: &Device<'_>) -> Result<u32, NvmlError> {
    let function = nvml_sym(instance.nvml().lib().nvmlDeviceGetGpuInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: an integer of the caller's; the handle is alive as long as `instance`.
    unsafe { nvml_try(function(instance.handle(), &mut id))? };
    Ok(id)
}

/// Compute instance of a MIG device.
pub(super) fn compute_instance(instance: &Device<'_>) -> Result<u32, NvmlError> {
    let function = nvml_sym(instance.nvml().lib().nvmlDeviceGetComputeInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: an integer of the caller's; the handle is alive as long as `instance`.
    unsafe { nvml_try(function(instance.handle(), &mut id))? };
    Ok(id)
}

/// Critical errors of one GPU from now on.
///
/// The wrapper's own set borrows the library and leaves out which MIG instance an event is about.
pub(super) struct Events {
    nvml: Arc<Nvml>,
    set: nvmlEventSet_t,
}

// SAFETY: the set is used by whoever owns it, one call at a time; the library asks for no particular thread.
unsafe impl Send for Events {}

pub(super) struct CriticalError {
    pub xid: u64,
    /// `None`: it is about the whole GPU.
    pub gpu_instance: Option<u32>,
}

impl Events {
    pub fn register(nvml: &Arc<Nvml>, gpu: &Device<'_>) -> Result<Events, NvmlError> {
        let register = nvml_sym(nvml.lib().nvmlDeviceRegisterEvents.as_ref())?;
        let set = nvml.create_event_set()?;
        // SAFETY: the set is the library's and is freed once, by the drop of `Events`, because the wrapper forgets it.
        let events = unsafe { Events { nvml: nvml.clone(), set: set.handle() } };
        mem::forget(set);
        // SAFETY: both handles are alive and of this library.
        unsafe {
            let gpu: nvmlDevice_t = gpu.handle();
            nvml_try(register(gpu, EventTypes::CRITICAL_XID_ERROR.bits(), events.set))?;
        }
        Ok(events)
    }

    /// The next one that has happened already; does not wait for any.
    pub fn next(&self) -> Option<CriticalError> {
        const WHOLE_GPU: u32 = u32::MAX;
        let wait = self.nvml.lib().nvmlEventSetWait_v2.as_ref().ok()?;
        // SAFETY: the struct is a handle and integers, for which zero is a value, and the caller's; the set is alive.
        let event: nvmlEventData_t = unsafe {
            let mut event = mem::zeroed();
            nvml_try(wait(self.set, &mut event, 0)).ok()?;
            event
        };
        let gpu_instance = Some(event.gpuInstanceId).filter(|id| *id != WHOLE_GPU);
        Some(CriticalError { xid: event.eventData, gpu_instance })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Ok(free) = &self.nvml.lib().nvmlEventSetFree {
            // SAFETY: the set is this library's and nobody else frees it.
            unsafe { free(self.set) };
        }
    }
}
