//! Holds memory of one GPU, through whatever `libcuda.so.1` the loader finds, until its standard input ends or it is
//! killed.

use std::{
    env,
    ffi::{CStr, c_char, c_int, c_uint},
    io::{self, Read, Write},
    process::ExitCode,
    ptr,
};

use clap::Parser;
use libloading::{Library, Symbol};

#[derive(Parser)]
#[command(about = "Hold memory of a GPU until standard input ends")]
struct Hold {
    /// UUID of a GPU or a MIG instance
    #[arg(long)]
    device: String,
    /// How much: 1000000, 500MB, 61GB, 24GiB
    #[arg(long, value_parser = fakegpu::parse_bytes)]
    bytes: u64,
}

fn main() -> ExitCode {
    let hold = Hold::parse();
    // SAFETY: no other thread runs yet.
    unsafe { env::set_var("CUDA_VISIBLE_DEVICES", &hold.device) };
    match hold.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fakegpu-hold: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Hold {
    fn run(&self) -> Result<(), String> {
        let cuda = Cuda::load()?;
        let (mut device, mut context, mut address) = (0, ptr::null_mut(), 0);
        // SAFETY: the types are those of the driver API, every pointer is to a local of that type, and the context is the
        // one that was just made.
        unsafe {
            cuda.call::<unsafe extern "C" fn(c_uint) -> c_int>("cuInit", |init| init(0))?;
            cuda.call::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>("cuDeviceGet", |get| get(&mut device, 0))?;
            cuda.call::<unsafe extern "C" fn(*mut *mut (), c_int) -> c_int>("cuDevicePrimaryCtxRetain", |retain| {
                retain(&mut context, device)
            })?;
            cuda.call::<unsafe extern "C" fn(*mut ()) -> c_int>("cuCtxSetCurrent", |set| set(context))?;
            cuda.call::<unsafe extern "C" fn(*mut u64, usize) -> c_int>("cuMemAlloc_v2", |allocate| {
                allocate(&mut address, self.bytes as usize)
            })?;
        }
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "holding").and_then(|()| stdout.flush()).map_err(|error| error.to_string())?;
        let until_the_end = io::stdin().lock().read_to_end(&mut Vec::new());
        until_the_end.map(drop).map_err(|error| error.to_string())
    }
}

struct Cuda {
    library: Library,
}

impl Cuda {
    fn load() -> Result<Cuda, String> {
        // SAFETY: the library is the driver's, or ours in its place; loading it has no effect on this program.
        let library = unsafe { Library::new("libcuda.so.1") }.map_err(|error| error.to_string())?;
        Ok(Cuda { library })
    }

    /// # Safety
    /// The function is of type `F`, and may be called the way `call` does.
    unsafe fn call<F>(&self, name: &str, call: impl FnOnce(Symbol<F>) -> c_int) -> Result<(), String> {
        // SAFETY: the caller says that this is its type.
        let function = unsafe { self.library.get::<F>(name) }.map_err(|error| error.to_string())?;
        match call(function) {
            0 => Ok(()),
            code => Err(format!("{name}: {}", self.name_of(code))),
        }
    }

    fn name_of(&self, code: c_int) -> String {
        let mut name: *const c_char = ptr::null();
        // SAFETY: this is the function's type; what it points to is the library's and constant.
        unsafe {
            let function =
                self.library.get::<unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int>("cuGetErrorName");
            match function {
                Ok(function) if function(code, &mut name) == 0 => CStr::from_ptr(name).to_string_lossy().into_owned(),
                _ => format!("error {code}"),
            }
        }
    }
}
