//! What CUDA functions answer.

use std::ffi::{CStr, c_char, c_int};

use crate::ffi::{Null, Out};

/// `CUresult`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub c_int);

pub type Result<T> = std::result::Result<T, Code>;

macro_rules! codes {
    ($($name:ident = $number:literal $full_name:literal $text:literal)*) => {
        impl Code {
            $(pub const $name: Code = Code($number);)*

            fn name_and_text(self) -> Option<(&'static CStr, &'static CStr)> {
                match self {
                    $(Code::$name => Some(($full_name, $text)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    SUCCESS = 0 c"CUDA_SUCCESS" c"no error"
    INVALID_VALUE = 1 c"CUDA_ERROR_INVALID_VALUE" c"invalid argument"
    OUT_OF_MEMORY = 2 c"CUDA_ERROR_OUT_OF_MEMORY" c"out of memory"
    NOT_INITIALIZED = 3 c"CUDA_ERROR_NOT_INITIALIZED" c"initialization error"
    NO_DEVICE = 100 c"CUDA_ERROR_NO_DEVICE" c"no CUDA-capable device is detected"
    INVALID_DEVICE = 101 c"CUDA_ERROR_INVALID_DEVICE" c"invalid device ordinal"
    INVALID_CONTEXT = 201 c"CUDA_ERROR_INVALID_CONTEXT" c"invalid device context"
    SYSTEM_DRIVER_MISMATCH = 803
        c"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
        c"system has unsupported display driver / cuda driver combination"
    COMPAT_NOT_SUPPORTED_ON_DEVICE = 804
        c"CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"
        c"forward compatibility was attempted on non supported HW"
    UNKNOWN = 999 c"CUDA_ERROR_UNKNOWN" c"unknown error"
}

impl From<Null> for Code {
    fn from(_: Null) -> Code {
        Code::INVALID_VALUE
    }
}

pub fn of(call: impl FnOnce() -> Result<()>) -> Code {
    match call() {
        Ok(()) => Code::SUCCESS,
        Err(code) => code,
    }
}

super::exports! {
    fn cuGetErrorName(code: Code, name: Out<*const c_char>) {
        let (text, _) = code.name_and_text().ok_or(Code::INVALID_VALUE)?;
        Ok(name.set(text.as_ptr())?)
    }
    fn cuGetErrorString(code: Code, text: Out<*const c_char>) {
        let (_, words) = code.name_and_text().ok_or(Code::INVALID_VALUE)?;
        Ok(text.set(words.as_ptr())?)
    }
}
