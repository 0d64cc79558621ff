//! The little of the CUDA driver API that a program needs to take memory, through whatever `libcuda.so.1` the loader
//! finds.

use std::{
    ffi::{CStr, c_char, c_int, c_uint},
    ptr,
};

use libloading::{Library, Symbol};

pub struct Driver {
    library: Library,
}

impl Driver {
    /// The devices are those of `CUDA_VISIBLE_DEVICES`.
    pub fn load() -> Result<Driver, String> {
        // SAFETY: the library is the driver's, or ours in its place; loading it has no effect on this program.
        let library = unsafe { Library::new("libcuda.so.1") }.map_err(|error| error.to_string())?;
        let driver = Driver { library };
        // SAFETY: the type is that of the driver API.
        unsafe { driver.call::<unsafe extern "C" fn(c_uint) -> c_int>("cuInit", |init| init(0))? };
        Ok(driver)
    }

    pub fn devices(&self) -> Result<u32, String> {
        let mut count: c_int = 0;
        // SAFETY: the type is that of the driver API, and the pointer is to a local of that type.
        unsafe { self.call::<unsafe extern "C" fn(*mut c_int) -> c_int>("cuDeviceGetCount", |get| get(&mut count))? };
        Ok(count as u32)
    }

    /// Bytes of one device, held until the process ends.
    pub fn allocate(&self, ordinal: u32, bytes: u64) -> Result<(), String> {
        let (mut device, mut context, mut address) = (0, ptr::null_mut(), 0);
        // SAFETY: the types are those of the driver API, every pointer is to a local of that type, and the context is the
        // one that was just made.
        unsafe {
            self.call::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>("cuDeviceGet", |get| {
                get(&mut device, ordinal as c_int)
            })?;
            self.call::<unsafe extern "C" fn(*mut *mut (), c_int) -> c_int>("cuDevicePrimaryCtxRetain", |retain| {
                retain(&mut context, device)
            })?;
            self.call::<unsafe extern "C" fn(*mut ()) -> c_int>("cuCtxSetCurrent", |set| set(context))?;
            self.call::<unsafe extern "C" fn(*mut u64, usize) -> c_int>("cuMemAlloc_v2", |allocate| {
                allocate(&mut address, bytes as usize)
            })
        }
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
