//! Who uses a device.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings as sys;

use super::{
    code::{Code, Result},
    exports,
    handle::{Device, Handle},
};
use crate::{
    ffi::Out,
    memory,
    state::{MigInstance, ProcessKind, ProcessList},
};

/// `NVML_VALUE_NOT_AVAILABLE`.
const UNKNOWN_BYTES: u64 = u64::MAX;
const NO_INSTANCE: c_uint = c_uint::MAX;
/// Beyond any process id here, so that a foreign one never names a local process.
const OTHER_NAMESPACE: u32 = 1 << 22;

type V1 = sys::nvmlProcessInfo_v1_t;
type V2 = sys::nvmlProcessInfo_v2_t;

macro_rules! lists {
    ($($kind:ident: $v1:ident $v2:ident $v3:ident)*) => {
        exports! {
            $(
                fn $v1(device: Handle, count: Out<c_uint>, infos: Out<V1>) {
                    list(device, ProcessKind::$kind, count, infos, |info| V1 {
                        pid: info.pid,
                        usedGpuMemory: info.usedGpuMemory,
                    })
                }
                fn $v2(device: Handle, count: Out<c_uint>, infos: Out<V2>) {
                    list(device, ProcessKind::$kind, count, infos, |info| info)
                }
                fn $v3(device: Handle, count: Out<c_uint>, infos: Out<V2>) {
                    list(device, ProcessKind::$kind, count, infos, |info| info)
                }
            )*
        }
    };
}

lists! {
    Compute:
        nvmlDeviceGetComputeRunningProcesses
        nvmlDeviceGetComputeRunningProcesses_v2
        nvmlDeviceGetComputeRunningProcesses_v3
    Graphics:
        nvmlDeviceGetGraphicsRunningProcesses
        nvmlDeviceGetGraphicsRunningProcesses_v2
        nvmlDeviceGetGraphicsRunningProcesses_v3
    Mps:
        nvmlDeviceGetMPSComputeRunningProcesses
        nvmlDeviceGetMPSComputeRunningProcesses_v2
        nvmlDeviceGetMPSComputeRunningProcesses_v3
}

/// `count`: how many fit in, how many there are out.
fn list<T: Copy>(
    device: Handle,
    kind: ProcessKind,
    count: Out<c_uint>,
    infos: Out<T>,
    version: impl Fn(V2) -> T,
) -> Result<()> {
    let found: Vec<T> = processes(&device.device()?, kind)?.into_iter().map(version).collect();
    let capacity = count.get()?;
    count.set(found.len() as c_uint)?;
    if found.is_empty() || infos.set_all(capacity as usize, &found) { Ok(()) } else { Err(Code::INSUFFICIENT_SIZE) }
}

fn processes(device: &Device, kind: ProcessKind) -> Result<Vec<V2>> {
    let gpu = device.gpu();
    let asked = device.instance().map(|instance| &instance.uuid);
    let instance = |uuid: &str| gpu.instances().iter().find(|instance| instance.uuid == uuid);
    let info = |pid: u32, bytes: Option<u64>, instance: Option<&MigInstance>| V2 {
        pid,
        usedGpuMemory: bytes.unwrap_or(UNKNOWN_BYTES),
        gpuInstanceId: instance.map_or(NO_INSTANCE, |instance| instance.gpu_instance),
        computeInstanceId: instance.map_or(NO_INSTANCE, |instance| instance.compute_instance),
    };
    let external = gpu.processes.iter().filter(|process| process.kind == kind);
    let external = external.filter(|process| asked.is_none() || process.instance.as_ref() == asked);
    let mut infos: Vec<V2> = external
        .map(|process| info(process.pid, process.bytes, process.instance.as_deref().and_then(instance)))
        .collect();
    if kind == ProcessKind::Compute {
        let claims = device.claims();
        let here = claims.iter().filter(|claim| memory::is_on(claim, gpu, device.instance()));
        infos.extend(here.map(|claim| info(claim.pid, Some(claim.bytes), instance(&claim.device))));
    }
    match gpu.process_list {
        ProcessList::Full => {}
        ProcessList::WithoutMemory => infos.iter_mut().for_each(|info| info.usedGpuMemory = UNKNOWN_BYTES),
        ProcessList::Empty => infos.clear(),
        ProcessList::OtherNamespace => infos.iter_mut().for_each(|info| info.pid += OTHER_NAMESPACE),
        ProcessList::NotSupported => return Err(Code::NOT_SUPPORTED),
    }
    Ok(infos)
}
