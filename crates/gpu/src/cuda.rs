//! The few functions of the CUDA driver API that a trial allocation needs, loaded at run time.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;

use libloading::Library;

pub(crate) const OUT_OF_MEMORY: c_int = 2;
const INTEGRATED: c_int = 18;

/// `CUresult` other than success, such as 100 `CUDA_ERROR_NO_DEVICE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CudaError {
    pub code: i32,
    pub name: String,
}

pub(crate) struct Cuda {
    library: Library,
}

/// The first visible device with its primary context, which is given back on drop.
pub(crate) struct Context<'a> {
    cuda: &'a Cuda,
    device: c_int,
}

/// Memory of the device, which is given back on drop.
pub(crate) struct Allocation<'a> {
    cuda: &'a Cuda,
    address: u64,
}

/// Calls a function of the library by its name in C and the types of its arguments.
macro_rules! call {
    ($cuda:expr, $name:ident($($value:expr => $type:ty),* $(,)?)) => {{
        let name = concat!(stringify!($name), "\0").as_bytes();
        // SAFETY: the types are those of cuda.h for this name, and pointers are to values that outlive the call.
        let code: c_int = unsafe {
            match $cuda.library.get::<unsafe extern "C" fn($($type),*) -> c_int>(name) {
                Ok(function) => function($($value),*),
                Err(_) => NOT_FOUND,
            }
        };
        $cuda.check(code)
    }};
}

/// `CUDA_ERROR_NOT_FOUND`: what a function that the library lacks answers here.
const NOT_FOUND: c_int = 500;

impl Cuda {
    /// `libcuda.so.1` where the system's loader finds it.
    pub fn load() -> Result<Cuda, libloading::Error> {
        // SAFETY: the driver's own library; what it does when it is loaded is what every CUDA program lets it do.
        let library = unsafe { Library::new("libcuda.so.1") }?;
        Ok(Cuda { library })
    }

    /// Initialises CUDA and makes the primary context of the first visible device the thread's.
    pub fn context(&self) -> Result<Context<'_>, CudaError> {
        call!(self, cuInit(0 => c_uint))?;
        let mut device = 0;
        call!(self, cuDeviceGet(&mut device => *mut c_int, 0 => c_int))?;
        let mut context: *mut c_void = ptr::null_mut();
        call!(self, cuDevicePrimaryCtxRetain(&mut context => *mut *mut c_void, device => c_int))?;
        let retained = Context { cuda: self, device };
        call!(self, cuCtxSetCurrent(context => *mut c_void))?;
        Ok(retained)
    }

    fn check(&self, code: c_int) -> Result<(), CudaError> {
        match code {
            0 => Ok(()),
            code => Err(CudaError { code, name: self.name(code) }),
        }
    }

    fn name(&self, code: c_int) -> String {
        type GetErrorName = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;
        let mut name: *const c_char = ptr::null();
        // SAFETY: the type is that of cuda.h; the answer is a string of the library that is never freed, or null.
        unsafe {
            if let Ok(function) = self.library.get::<GetErrorName>(b"cuGetErrorName\0") {
                function(code, &mut name);
            }
            if name.is_null() {
                format!("CUDA error {code}")
            } else {
                CStr::from_ptr(name).to_string_lossy().into_owned()
            }
        }
    }
}

impl<'a> Context<'a> {
    /// Free and total bytes.
    pub fn memory(&self) -> Result<(u64, u64), CudaError> {
        let (mut free, mut total) = (0usize, 0usize);
        call!(self.cuda, cuMemGetInfo_v2(&mut free => *mut usize, &mut total => *mut usize))?;
        Ok((free as u64, total as u64))
    }

    /// Its memory is the machine's, of which CUDA calls free what is not even cache.
    pub fn is_integrated(&self) -> bool {
        let mut value = 0;
        let answer = call!(self.cuda, cuDeviceGetAttribute(
            &mut value => *mut c_int, INTEGRATED => c_int, self.device => c_int));
        answer.is_ok() && value != 0
    }

    pub fn allocate(&self, bytes: u64) -> Result<Allocation<'a>, CudaError> {
        let mut address = 0u64;
        call!(self.cuda, cuMemAlloc_v2(&mut address => *mut u64, bytes as usize => usize))?;
        let allocation = Allocation { cuda: self.cuda, address };
        // Memory that is not touched need not exist.
        call!(self.cuda, cuMemsetD8_v2(address => u64, 0 => u8, bytes as usize => usize))?;
        Ok(allocation)
    }

    pub fn synchronize(&self) -> Result<(), CudaError> {
        call!(self.cuda, cuCtxSynchronize())
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        let _ = call!(self.cuda, cuDevicePrimaryCtxRelease_v2(self.device => c_int));
    }
}

impl Drop for Allocation<'_> {
    fn drop(&mut self) {
        let _ = call!(self.cuda, cuMemFree_v2(self.address => u64));
    }
}
