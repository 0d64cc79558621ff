//! Instances of a GPU that was split.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings as sys;

use super::{
    code::{Code, Result},
    exports,
    handle::Handle,
};
use crate::{
    ffi::Out,
    state::{Mig, MigInstance},
};

exports! {
    fn nvmlDeviceGetMigMode(device: Handle, current: Out<c_uint>, pending: Out<c_uint>) {
        let mode = match device.gpu()?.mig {
            Mig::NotSupported => return Err(Code::NOT_SUPPORTED),
            Mig::Disabled => 0,
            Mig::Instances(_) => 1,
        };
        current.set(mode)?;
        Ok(pending.set(mode)?)
    }
    /// How many slots there are, whether used or not.
    fn nvmlDeviceGetMaxMigDeviceCount(device: Handle, count: Out<c_uint>) {
        let slots = if device.gpu()?.mig == Mig::NotSupported { 0 } else { 7 };
        Ok(count.set(slots)?)
    }
    fn nvmlDeviceGetMigDeviceHandleByIndex(device: Handle, index: c_uint, instance: Out<Handle>) {
        let gpu = device.gpu()?;
        if gpu.mig == Mig::NotSupported {
            return Err(Code::NOT_SUPPORTED);
        }
        let found = gpu.instances().get(index as usize).ok_or(Code::NOT_FOUND)?;
        Ok(instance.set(Handle::of(&found.uuid))?)
    }
    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device: Handle, gpu: Out<Handle>) {
        let device = device.device()?;
        if device.instance().is_none() {
            return Err(Code::INVALID_ARGUMENT);
        }
        Ok(gpu.set(Handle::of(&device.gpu().uuid))?)
    }
    fn nvmlDeviceIsMigDeviceHandle(device: Handle, is_instance: Out<c_uint>) {
        Ok(is_instance.set(c_uint::from(device.device()?.instance().is_some()))?)
    }
    fn nvmlDeviceGetGpuInstanceId(device: Handle, id: Out<c_uint>) {
        Ok(id.set(instance(device)?.gpu_instance)?)
    }
    fn nvmlDeviceGetComputeInstanceId(device: Handle, id: Out<c_uint>) {
        Ok(id.set(instance(device)?.compute_instance)?)
    }
    fn nvmlDeviceGetAttributes_v2(device: Handle, attributes: Out<sys::nvmlDeviceAttributes_t>) {
        let instance = instance(device)?;
        let slices = instance.profile.split_once('g').and_then(|(slices, _)| slices.parse().ok()).unwrap_or(1);
        Ok(attributes.set(sys::nvmlDeviceAttributes_t {
            multiprocessorCount: instance.sms,
            sharedCopyEngineCount: slices,
            sharedDecoderCount: 1,
            sharedEncoderCount: 0,
            sharedJpegCount: 1,
            sharedOfaCount: 0,
            gpuInstanceSliceCount: slices,
            computeInstanceSliceCount: slices,
            memorySizeMB: instance.total >> 20,
        })?)
    }
}

fn instance(device: Handle) -> Result<MigInstance> {
    device.device()?.instance().cloned().ok_or(Code::NOT_SUPPORTED)
}
