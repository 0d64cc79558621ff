//! Critical errors (XID) as they happen.

use std::{
    collections::HashMap,
    ffi::{c_uint, c_ulonglong},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper_sys::bindings as sys;

use super::{
    code::{Code, Result},
    exports,
    handle::{Handle, state},
};
use crate::ffi::Out;

/// By its number: the UUIDs it watches, and how many errors of each were told.
static SETS: Mutex<Option<HashMap<usize, HashMap<String, usize>>>> = Mutex::new(None);

/// `nvmlEventSet_t`.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Set(usize);

const XID: c_ulonglong = 0x8;
const DOUBLE_BIT_ECC: c_ulonglong = 0x2;
/// How soon a change of the state is seen.
const PAUSE: Duration = Duration::from_millis(10);

exports! {
    fn nvmlEventSetCreate(set: Out<Set>) {
        state()?;
        let mut sets = sets();
        let sets = sets.get_or_insert_default();
        let number = sets.keys().max().map_or(1, |last| last + 1);
        sets.insert(number, HashMap::new());
        Ok(set.set(Set(number))?)
    }
    fn nvmlEventSetFree(set: Set) {
        let known = sets().as_mut().and_then(|sets| sets.remove(&set.0));
        known.map(drop).ok_or(Code::INVALID_ARGUMENT)
    }
    fn nvmlDeviceGetSupportedEventTypes(device: Handle, types: Out<c_ulonglong>) {
        let gpu = device.gpu()?;
        Ok(types.set(if gpu.ecc.is_some() { XID | DOUBLE_BIT_ECC } else { XID })?)
    }
    /// What happened before is not told.
    fn nvmlDeviceRegisterEvents(device: Handle, types: c_ulonglong, set: Set) {
        let gpu = device.gpu()?;
        if types & !(XID | DOUBLE_BIT_ECC) != 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        set.with(|watched| watched.insert(gpu.uuid, gpu.xids.len()))?;
        Ok(())
    }
    fn nvmlEventSetWait(set: Set, event: Out<sys::nvmlEventData_t>, milliseconds: c_uint) {
        wait(set, event, milliseconds)
    }
    fn nvmlEventSetWait_v2(set: Set, event: Out<sys::nvmlEventData_t>, milliseconds: c_uint) {
        wait(set, event, milliseconds)
    }
}

impl Set {
    fn with<T>(self, change: impl FnOnce(&mut HashMap<String, usize>) -> T) -> Result<T> {
        sets().as_mut().and_then(|sets| sets.get_mut(&self.0)).map(change).ok_or(Code::INVALID_ARGUMENT)
    }
}

fn sets() -> MutexGuard<'static, Option<HashMap<usize, HashMap<String, usize>>>> {
    SETS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(set: Set, event: Out<sys::nvmlEventData_t>, milliseconds: c_uint) -> Result<()> {
    let deadline = Instant::now() + Duration::from_millis(milliseconds.into());
    loop {
        let state = state()?;
        let next = set.with(|watched| {
            state.gpus.iter().find_map(|gpu| {
                let told = watched.get_mut(&gpu.uuid)?;
                let xid = *gpu.xids.get(*told)?;
                *told += 1;
                Some((Handle::of(&gpu.uuid), xid))
            })
        })?;
        if let Some((device, xid)) = next {
            return Ok(event.set(sys::nvmlEventData_t {
                device: device.as_pointer(),
                eventType: XID,
                eventData: xid,
                gpuInstanceId: c_uint::MAX,
                computeInstanceId: c_uint::MAX,
            })?);
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(Code::TIMEOUT);
        }
        thread::sleep(PAUSE.min(deadline - now));
    }
}
