//! The library as a program that allocates sees it, in a process of its own for each test.

mod support;

use std::{
    ffi::{CStr, c_char, c_int, c_uint},
    sync::mpsc,
    time::Duration,
};

use fakegpu::{Arrival, ExternalProcess, cuda::Code};
use libloading::{Library, Symbol};

use support::{Held, on_a_machine};

const GB: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

#[test]
fn a_process_allocates_what_is_free_and_no_more() {
    let Some(folder) = on_a_machine("a_process_allocates_what_is_free_and_no_more", "2xRTX3060") else { return };
    folder.update(|state| state.cuda.context_bytes = 300 * MIB);
    let cuda = Cuda::load();
    assert_eq!(cuda.allocate(1), Err(Code::INVALID_CONTEXT));
    assert_eq!(cuda.init(), Code::SUCCESS);
    assert_eq!(cuda.count(), 2);
    assert_eq!(cuda.name(1), "NVIDIA GeForce RTX 3060");
    assert_eq!((cuda.attribute(75, 0), cuda.attribute(76, 0)), (8, 6));
    cuda.use_device(0);

    let usable = (12288 - 246) * MIB;
    assert_eq!(cuda.memory(), (usable - 300 * MIB, usable));
    assert_eq!(cuda.allocate(usable), Err(Code::OUT_OF_MEMORY));
    let address = cuda.allocate(usable - 300 * MIB).unwrap();
    assert_eq!(cuda.memory().0, 0);
    assert_eq!(cuda.set(address + GB, GB), Code::SUCCESS);
    assert_eq!(cuda.set(address + GB, usable), Code::INVALID_VALUE);
    assert_eq!(cuda.free(address), Code::SUCCESS);
    assert_eq!(cuda.free(address), Code::INVALID_VALUE);
    assert_eq!(cuda.memory().0, usable - 300 * MIB);
    // The other GPU is untouched, and the context goes with its last user.
    assert_eq!(folder.claims().len(), 1);
    cuda.allocate(GB).unwrap();
    cuda.release(0);
    assert_eq!(folder.claims(), []);
}

#[test]
fn only_chosen_devices_are_visible() {
    let Some(folder) = on_a_machine("only_chosen_devices_are_visible", "2xH100+1xL4") else { return };
    folder.update(|state| assert!(state.gpus[1].split(7)));
    let state = folder.state().unwrap();
    let instance = &state.gpus[1].instances()[3].uuid;
    let first = &state.gpus[0].uuid;
    let seen = |choice: &str| -> Vec<String> {
        // What is visible is settled at the start of a process, so each choice takes one: it holds memory.
        let held = Held::try_new(choice, GB);
        let claims = folder.claims();
        match held {
            Ok(held) => {
                held.end();
                claims.into_iter().map(|claim| claim.device).collect()
            }
            Err(message) => vec![message.trim_end().rsplit(' ').next().unwrap().to_owned()],
        }
    };
    assert_eq!(seen(instance), [instance.as_str()]);
    assert_eq!(seen(first), [first.as_str()]);
    assert_eq!(seen("2"), [state.gpus[2].uuid.as_str()]);
    assert_eq!(seen(&format!("{first},GPU-0")), [first.as_str()]);
    assert_eq!(seen(&format!("GPU-0,{first}")), ["CUDA_ERROR_NO_DEVICE"]);
    assert_eq!(seen("MIG-0"), ["CUDA_ERROR_NO_DEVICE"]);
    assert_eq!(seen("3"), ["CUDA_ERROR_NO_DEVICE"]);
    assert_eq!(seen(""), ["CUDA_ERROR_NO_DEVICE"]);
    folder.update(|state| state.gpus[0].lost = true);
    assert_eq!(seen(first), ["CUDA_ERROR_NO_DEVICE"]);
}

#[test]
fn an_instance_has_its_own_memory() {
    let Some(folder) = on_a_machine("an_instance_has_its_own_memory", "1xA100-40") else { return };
    folder.update(|state| assert!(state.gpus[0].split(2)));
    let gpu = folder.state().unwrap().gpus.remove(0);
    let [first, second] = gpu.instances() else { panic!("two instances") };
    let held = Held::new(&first.uuid, 4 * GB);
    let message = Held::try_new(&first.uuid, 4 * GB).err().expect("they do not both fit");
    assert!(message.contains("CUDA_ERROR_OUT_OF_MEMORY"), "{message}");
    Held::new(&second.uuid, 4 * GB).end();
    held.end();
    Held::new(&first.uuid, 4 * GB).end();
}

#[test]
fn of_two_that_do_not_both_fit_one_gets_memory() {
    let Some(folder) = on_a_machine("of_two_that_do_not_both_fit_one_gets_memory", "1xRTX4090") else { return };
    let uuid = folder.state().unwrap().gpus[0].uuid.clone();
    let at_once: Vec<Result<Held, String>> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..6).map(|_| scope.spawn(|| Held::try_new(&uuid, 10 * GB))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let (held, refused): (Vec<_>, Vec<_>) = at_once.into_iter().partition(Result::is_ok);
    assert_eq!(held.len(), 2);
    assert!(refused.iter().all(|held| matches!(held, Err(message) if message.contains("OUT_OF_MEMORY"))));
    assert_eq!(folder.claims().iter().map(|claim| claim.bytes).sum::<u64>(), 20 * GB);
}

#[test]
fn a_foreign_process_comes_with_the_first_start() {
    let Some(folder) = on_a_machine("a_foreign_process_comes_with_the_first_start", "1xA100-80") else { return };
    let uuid = folder.state().unwrap().gpus[0].uuid.clone();
    folder.update(|state| {
        let process = ExternalProcess::compute(4711, "vllm", 61 * GB);
        state.cuda.external_on_init = Some(Arrival { gpu: uuid.clone(), process });
    });
    let message = Held::try_new(&uuid, 40 * GB).err().expect("the other one was faster");
    assert!(message.contains("OUT_OF_MEMORY"), "{message}");
    let state = folder.state().unwrap();
    assert_eq!(state.cuda.external_on_init, None);
    assert_eq!(state.gpus[0].processes.len(), 1);
    Held::new(&uuid, 20 * GB).end();
    assert_eq!(folder.state().unwrap().gpus[0].processes.len(), 1);
}

#[test]
fn cuda_fails_where_nvml_sees_nothing_wrong() {
    let Some(folder) = on_a_machine("cuda_fails_where_nvml_sees_nothing_wrong", "1xH200") else { return };
    let cuda = Cuda::load();
    for (code, expected) in [(804, Code::COMPAT_NOT_SUPPORTED_ON_DEVICE), (999, Code::UNKNOWN)] {
        folder.update(|state| state.cuda.init_error = Some(code));
        assert_eq!(cuda.init(), expected);
    }
    folder.update(|state| state.cuda.init_error = None);
    folder.update(|state| state.init_error = Some(18));
    assert_eq!(cuda.init(), Code::SYSTEM_DRIVER_MISMATCH);

    folder.update(|state| {
        state.init_error = None;
        state.cuda.init_seconds = 600.0;
        state.cuda.oom_above = Some(10 * GB);
    });
    std::thread::scope(|scope| {
        let (told, hears) = mpsc::channel();
        let cuda = &cuda;
        scope.spawn(move || told.send(cuda.init()).unwrap());
        assert!(hears.recv_timeout(Duration::from_millis(300)).is_err());
        folder.update(|state| state.cuda.init_seconds = 0.0);
        assert_eq!(hears.recv_timeout(Duration::from_secs(10)), Ok(Code::SUCCESS));
    });
    cuda.use_device(0);
    assert!(cuda.memory().0 > 100 * GB);
    cuda.allocate(6 * GB).unwrap();
    assert_eq!(cuda.allocate(6 * GB), Err(Code::OUT_OF_MEMORY));
    cuda.allocate(4 * GB).unwrap();
}

/// Just enough of the driver API.
struct Cuda(Library);

impl Cuda {
    fn load() -> Cuda {
        // SAFETY: loading it has no effect on this program.
        Cuda(unsafe { Library::new("libcuda.so.1") }.unwrap())
    }

    /// # Safety
    /// The function is of type `F`.
    unsafe fn get<F>(&self, name: &str) -> Symbol<'_, F> {
        // SAFETY: the caller says so.
        unsafe { self.0.get(name) }.unwrap()
    }

    fn init(&self) -> Code {
        // SAFETY: as in the driver API.
        unsafe { self.get::<extern "C" fn(c_uint) -> Code>("cuInit")(0) }
    }

    fn count(&self) -> c_int {
        let mut count = 0;
        // SAFETY: as in the driver API.
        let code = unsafe { self.get::<extern "C" fn(&mut c_int) -> Code>("cuDeviceGetCount")(&mut count) };
        assert_eq!(code, Code::SUCCESS);
        count
    }

    fn name(&self, device: c_int) -> String {
        let mut name: [c_char; 100] = [0; 100];
        // SAFETY: as in the driver API, with as much room as is said.
        unsafe {
            let function = self.get::<extern "C" fn(*mut c_char, c_int, c_int) -> Code>("cuDeviceGetName");
            assert_eq!(function(name.as_mut_ptr(), 100, device), Code::SUCCESS);
            CStr::from_ptr(name.as_ptr()).to_str().unwrap().to_owned()
        }
    }

    fn attribute(&self, attribute: c_int, device: c_int) -> c_int {
        let mut value = 0;
        // SAFETY: as in the driver API.
        let function = unsafe { self.get::<extern "C" fn(&mut c_int, c_int, c_int) -> Code>("cuDeviceGetAttribute") };
        assert_eq!(function(&mut value, attribute, device), Code::SUCCESS);
        value
    }

    /// Makes its primary context current.
    fn use_device(&self, device: c_int) {
        let mut context = 0usize;
        // SAFETY: as in the driver API; a context is a pointer that is only handed back.
        unsafe {
            let retain = self.get::<extern "C" fn(&mut usize, c_int) -> Code>("cuDevicePrimaryCtxRetain");
            assert_eq!(retain(&mut context, device), Code::SUCCESS);
            assert_eq!(self.get::<extern "C" fn(usize) -> Code>("cuCtxSetCurrent")(context), Code::SUCCESS);
        }
    }

    fn release(&self, device: c_int) {
        // SAFETY: as in the driver API.
        let release = unsafe { self.get::<extern "C" fn(c_int) -> Code>("cuDevicePrimaryCtxRelease_v2") };
        assert_eq!(release(device), Code::SUCCESS);
    }

    /// Free and total.
    fn memory(&self) -> (u64, u64) {
        let (mut free, mut total) = (0usize, 0usize);
        // SAFETY: as in the driver API.
        let function = unsafe { self.get::<extern "C" fn(&mut usize, &mut usize) -> Code>("cuMemGetInfo_v2") };
        assert_eq!(function(&mut free, &mut total), Code::SUCCESS);
        (free as u64, total as u64)
    }

    fn allocate(&self, bytes: u64) -> Result<u64, Code> {
        let mut address = 0;
        // SAFETY: as in the driver API.
        let function = unsafe { self.get::<extern "C" fn(&mut u64, usize) -> Code>("cuMemAlloc_v2") };
        match function(&mut address, bytes as usize) {
            Code::SUCCESS => Ok(address),
            code => Err(code),
        }
    }

    fn set(&self, address: u64, bytes: u64) -> Code {
        // SAFETY: as in the driver API.
        unsafe { self.get::<extern "C" fn(u64, u8, usize) -> Code>("cuMemsetD8_v2")(address, 0, bytes as usize) }
    }

    fn free(&self, address: u64) -> Code {
        // SAFETY: as in the driver API.
        unsafe { self.get::<extern "C" fn(u64) -> Code>("cuMemFree_v2")(address) }
    }
}
