//! From the handles that callers hold to GPUs and MIG instances.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use nvml_wrapper_sys::bindings::nvmlDevice_t;

use super::code::{Code, Result};
use crate::{
    Folder,
    claims::Claim,
    memory::Usage,
    state::{Gpu, MigInstance, State},
};

/// `nvmlDevice_t`: a number for a UUID, so that it means the same device after the state has changed.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle(usize);

/// How often the library was initialised more than it was shut down.
static USERS: AtomicUsize = AtomicUsize::new(0);
static UUIDS: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// No caller mistakes it for a small number or null.
const FIRST: usize = 0x1000;

pub fn initialise() -> Result<()> {
    let folder = Folder::from_env().ok_or_else(|| {
        eprintln!("fakegpu: FAKEGPU_DIR is not set");
        Code::DRIVER_NOT_LOADED
    })?;
    let state = folder.state_after(|state| state.init_seconds).ok_or(Code::UNKNOWN)?;
    if let Some(code) = state.init_error {
        return Err(Code(code));
    }
    USERS.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

pub fn shut_down() -> Result<()> {
    let less = |users: usize| users.checked_sub(1);
    USERS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).map(drop).map_err(|_| Code::UNINITIALIZED)
}

/// The state as of now.
pub fn state() -> Result<State> {
    folder()?.state_after(|_| 0.0).ok_or(Code::UNKNOWN)
}

fn folder() -> Result<Folder> {
    if USERS.load(Ordering::SeqCst) == 0 {
        return Err(Code::UNINITIALIZED);
    }
    Folder::from_env().ok_or(Code::UNKNOWN)
}

impl Handle {
    pub fn of(uuid: &str) -> Handle {
        let mut uuids = uuids();
        let position = uuids.iter().position(|known| known == uuid).unwrap_or_else(|| {
            uuids.push(uuid.to_owned());
            uuids.len() - 1
        });
        Handle(FIRST + position)
    }

    pub fn as_pointer(self) -> nvmlDevice_t {
        self.0 as nvmlDevice_t
    }

    /// Waits if the GPU hangs.
    pub fn device(self) -> Result<Device> {
        let uuid = self.0.checked_sub(FIRST).and_then(|position| uuids().get(position).cloned());
        let uuid = uuid.ok_or(Code::INVALID_ARGUMENT)?;
        Device::find(&uuid)?.ok_or(Code::GPU_IS_LOST)
    }

    /// A whole GPU; instances have no temperature, fan, ...
    pub fn gpu(self) -> Result<Gpu> {
        let mut device = self.device()?;
        match device.instance {
            None => Ok(device.state.gpus.swap_remove(device.index)),
            Some(_) => Err(Code::NOT_SUPPORTED),
        }
    }
}

fn uuids() -> MutexGuard<'static, Vec<String>> {
    UUIDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A GPU or a MIG instance, and the machine it is in.
pub struct Device {
    folder: Folder,
    pub state: State,
    pub index: usize,
    instance: Option<usize>,
}

impl Device {
    /// `None`: no GPU and no instance has the UUID.
    pub fn find(uuid: &str) -> Result<Option<Device>> {
        let folder = folder()?;
        let hang = |state: &State| position(state, uuid).map_or(0.0, |(index, _)| state.gpus[index].hang_seconds);
        let state = folder.state_after(hang).ok_or(Code::UNKNOWN)?;
        match position(&state, uuid) {
            None => Ok(None),
            Some((index, _)) if state.gpus[index].lost => Err(Code::GPU_IS_LOST),
            Some((index, instance)) => Ok(Some(Device { folder, state, index, instance })),
        }
    }

    pub fn handle(&self) -> Handle {
        Handle::of(self.instance().map_or(&self.gpu().uuid, |instance| &instance.uuid))
    }

    pub fn gpu(&self) -> &Gpu {
        &self.state.gpus[self.index]
    }

    pub fn instance(&self) -> Option<&MigInstance> {
        self.instance.map(|instance| &self.gpu().instances()[instance])
    }

    pub fn usage(&self) -> Usage {
        Usage::of(self.gpu(), self.instance(), &self.claims())
    }

    pub fn claims(&self) -> Vec<Claim> {
        self.folder.claims()
    }
}

fn position(state: &State, uuid: &str) -> Option<(usize, Option<usize>)> {
    state.gpus.iter().enumerate().find_map(|(index, gpu)| match gpu.uuid == uuid {
        true => Some((index, None)),
        false => Some((index, Some(gpu.instances().iter().position(|instance| instance.uuid == uuid)?))),
    })
}
