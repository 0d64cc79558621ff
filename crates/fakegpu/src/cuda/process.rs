//! What this process sees and holds.

use std::{
    collections::{BTreeMap, HashMap},
    env, fs,
    path::PathBuf,
    process,
    sync::{Mutex, PoisonError},
};

use super::code::{Code, Result};
use crate::{
    Folder,
    memory::Usage,
    state::{Arrival, Gpu, MigInstance, State},
};

static PROCESS: Mutex<Option<Process>> = Mutex::new(None);

/// From the first `cuInit` on.
pub struct Process {
    folder: Folder,
    /// By CUDA's ordinal; settled at the start.
    pub devices: Vec<Device>,
    contexts: HashMap<usize, Context>,
    /// By address.
    allocations: BTreeMap<u64, Allocation>,
    next_context: usize,
    next_address: u64,
}

/// A GPU or a MIG instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub gpu: String,
    /// UUID of the instance.
    pub instance: Option<String>,
}

struct Context {
    device: usize,
    /// Of a primary context: how often it was retained.
    users: usize,
    is_primary: bool,
    claim: Option<PathBuf>,
}

struct Allocation {
    context: usize,
    bytes: u64,
    claim: PathBuf,
}

/// The state of one device at one call.
pub struct View {
    pub state: State,
    gpu: usize,
    instance: Option<usize>,
}

pub fn initialise() -> Result<()> {
    let folder = Folder::from_env().ok_or_else(|| {
        eprintln!("fakegpu: FAKEGPU_DIR is not set");
        Code::NO_DEVICE
    })?;
    let state = folder.state_after(|state| state.cuda.init_seconds).ok_or(Code::UNKNOWN)?;
    if let Some(code) = state.cuda.init_error {
        return Err(Code(code));
    }
    match state.init_error {
        None => {}
        Some(18) => return Err(Code::SYSTEM_DRIVER_MISMATCH),
        Some(_) => return Err(Code::NO_DEVICE),
    }
    if state.cuda.external_on_init.is_some() {
        folder.update(let_in);
    }
    let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    if process.is_some() {
        return Ok(());
    }
    let devices = visible(&state, env::var("CUDA_VISIBLE_DEVICES").ok().as_deref());
    if devices.is_empty() {
        return Err(Code::NO_DEVICE);
    }
    *process = Some(Process {
        folder,
        devices,
        contexts: HashMap::new(),
        allocations: BTreeMap::new(),
        next_context: 0x100,
        next_address: 0x7f00_0000_0000,
    });
    Ok(())
}

/// What waits for the first `cuInit` happens now; another process may have been faster.
fn let_in(state: &mut State) {
    let Some(Arrival { gpu, process }) = state.cuda.external_on_init.take() else { return };
    match state.gpu_mut(&gpu) {
        Some(gpu) => gpu.processes.push(process),
        None => eprintln!("fakegpu: external_on_init: there is no GPU {gpu}"),
    }
}

/// Like CUDA, stops at the first word that names no device. Of a GPU with MIG, only an instance can be used, and without
/// a choice the first one.
fn visible(state: &State, choice: Option<&str>) -> Vec<Device> {
    let present: Vec<&Gpu> = state.gpus.iter().filter(|gpu| !gpu.lost).collect();
    let whole = |gpu: &Gpu| match (&gpu.mig, gpu.instances()) {
        (crate::state::Mig::Instances(_), []) => None,
        (_, instances) => {
            Some(Device { gpu: gpu.uuid.clone(), instance: instances.first().map(|instance| instance.uuid.clone()) })
        }
    };
    let Some(choice) = choice else { return present.into_iter().filter_map(whole).collect() };
    let named = |word: &str| {
        if let Ok(ordinal) = word.parse::<usize>() {
            return present.get(ordinal).and_then(|gpu| whole(gpu));
        }
        if word.starts_with("MIG-") {
            return present.iter().find_map(|gpu| {
                let instance = gpu.instances().iter().find(|instance| instance.uuid == word)?;
                Some(Device { gpu: gpu.uuid.clone(), instance: Some(instance.uuid.clone()) })
            });
        }
        // The beginning of a UUID is enough if it is the only one.
        let mut matching = present.iter().filter(|gpu| word.starts_with("GPU-") && gpu.uuid.starts_with(word));
        match (matching.next(), matching.next()) {
            (Some(gpu), None) => whole(gpu),
            _ => None,
        }
    };
    choice.split(',').map(str::trim).map_while(named).collect()
}

/// Fails unless `cuInit` has succeeded.
pub fn with<T>(call: impl FnOnce(&mut Process) -> Result<T>) -> Result<T> {
    let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    call(process.as_mut().ok_or(Code::NOT_INITIALIZED)?)
}

impl Device {
    pub fn uuid(&self) -> &str {
        self.instance.as_ref().unwrap_or(&self.gpu)
    }
}

impl View {
    pub fn gpu(&self) -> &Gpu {
        &self.state.gpus[self.gpu]
    }

    pub fn instance(&self) -> Option<&MigInstance> {
        self.instance.map(|instance| &self.gpu().instances()[instance])
    }
}

impl Process {
    /// Waits if the GPU hangs.
    pub fn view(&self, ordinal: usize) -> Result<View> {
        let device = self.devices.get(ordinal).ok_or(Code::INVALID_DEVICE)?;
        let hang = |state: &State| state.gpu(&device.gpu).map_or(0.0, |gpu| gpu.hang_seconds);
        let state = self.folder.state_after(hang).ok_or(Code::UNKNOWN)?;
        let gpu = state.gpus.iter().position(|gpu| gpu.uuid == device.gpu && !gpu.lost).ok_or(Code::UNKNOWN)?;
        let instance = match &device.instance {
            None => None,
            Some(uuid) => {
                let instances = state.gpus[gpu].instances();
                Some(instances.iter().position(|instance| instance.uuid == *uuid).ok_or(Code::UNKNOWN)?)
            }
        };
        Ok(View { state, gpu, instance })
    }

    pub fn usage(&self, context: usize) -> Result<Usage> {
        let view = self.view(self.context(context)?.device)?;
        Ok(Usage::of(view.gpu(), view.instance(), &self.folder.claims()))
    }

    fn context(&self, context: usize) -> Result<&Context> {
        self.contexts.get(&context).ok_or(Code::INVALID_CONTEXT)
    }

    pub fn has_context(&self, context: usize) -> bool {
        self.contexts.contains_key(&context)
    }

    pub fn device_of(&self, context: usize) -> Result<usize> {
        Ok(self.context(context)?.device)
    }

    pub fn primary_context(&self, ordinal: usize) -> Option<usize> {
        let mut contexts = self.contexts.iter();
        contexts.find(|(_, context)| context.is_primary && context.device == ordinal).map(|(number, _)| *number)
    }

    pub fn retain_primary_context(&mut self, ordinal: usize) -> Result<usize> {
        match self.primary_context(ordinal) {
            None => self.create_context(ordinal, true),
            Some(number) => {
                self.view(ordinal)?;
                self.contexts.entry(number).and_modify(|context| context.users += 1);
                Ok(number)
            }
        }
    }

    pub fn release_primary_context(&mut self, ordinal: usize) -> Result<()> {
        let number = self.primary_context(ordinal).ok_or(Code::INVALID_CONTEXT)?;
        let context = self.contexts.get_mut(&number).ok_or(Code::INVALID_CONTEXT)?;
        context.users -= 1;
        if context.users == 0 { self.destroy_context(number) } else { Ok(()) }
    }

    pub fn create_context(&mut self, ordinal: usize, is_primary: bool) -> Result<usize> {
        let bytes = self.view(ordinal)?.state.cuda.context_bytes;
        let claim = if bytes == 0 { None } else { Some(self.claim(ordinal, bytes)?) };
        let number = self.next_context;
        self.next_context += 1;
        self.contexts.insert(number, Context { device: ordinal, users: 1, is_primary, claim });
        Ok(number)
    }

    /// Its memory goes with it.
    pub fn destroy_context(&mut self, number: usize) -> Result<()> {
        let context = self.contexts.remove(&number).ok_or(Code::INVALID_CONTEXT)?;
        let addresses = self.allocations.iter().filter(|(_, allocation)| allocation.context == number);
        let addresses: Vec<u64> = addresses.map(|(address, _)| *address).collect();
        for address in addresses {
            self.free(address)?;
        }
        context.claim.map_or(Ok(()), give_back)
    }

    pub fn allocate(&mut self, context: usize, bytes: u64) -> Result<u64> {
        const GRANULARITY: u64 = 2 << 20;
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let claim = self.claim(self.context(context)?.device, bytes)?;
        let address = self.next_address;
        self.next_address += bytes.next_multiple_of(GRANULARITY);
        self.allocations.insert(address, Allocation { context, bytes, claim });
        Ok(address)
    }

    pub fn free(&mut self, address: u64) -> Result<()> {
        give_back(self.allocations.remove(&address).ok_or(Code::INVALID_VALUE)?.claim)
    }

    /// Whether all of it was allocated at once.
    pub fn holds(&self, address: u64, bytes: u64) -> bool {
        let before = self.allocations.range(..=address).next_back();
        before.is_some_and(|(start, allocation)| address - start + bytes <= allocation.bytes)
    }

    /// One process after the other: two never get the same bytes.
    fn claim(&self, ordinal: usize, bytes: u64) -> Result<PathBuf> {
        let view = self.view(ordinal)?;
        let _alone = self.folder.lock().map_err(failed)?;
        let claims = self.folder.claims();
        if bytes > Usage::of(view.gpu(), view.instance(), &claims).free {
            return Err(Code::OUT_OF_MEMORY);
        }
        let device = self.devices[ordinal].uuid();
        let own = claims.iter().filter(|claim| claim.pid == process::id() && claim.device == device);
        let own: u64 = own.map(|claim| claim.bytes).sum();
        if view.state.cuda.oom_above.is_some_and(|limit| own + bytes > limit) {
            return Err(Code::OUT_OF_MEMORY);
        }
        self.folder.claim(process::id(), device, bytes).map_err(failed)
    }
}

fn give_back(claim: PathBuf) -> Result<()> {
    fs::remove_file(claim).map_err(failed)
}

fn failed(error: std::io::Error) -> Code {
    eprintln!("fakegpu: {error}");
    Code::UNKNOWN
}
