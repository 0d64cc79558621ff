//! What NVML functions answer.

use std::ffi::{CStr, c_uint};

use crate::ffi::Null;

/// `nvmlReturn_t`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub c_uint);

pub type Result<T> = std::result::Result<T, Code>;

macro_rules! codes {
    ($($name:ident = $number:literal $text:literal)*) => {
        impl Code {
            $(pub const $name: Code = Code($number);)*

            pub fn text(self) -> &'static CStr {
                match self {
                    $(Code::$name => $text,)*
                    _ => c"Unknown Error",
                }
            }
        }
    };
}

codes! {
    SUCCESS = 0 c"Success"
    UNINITIALIZED = 1 c"Uninitialized"
    INVALID_ARGUMENT = 2 c"Invalid Argument"
    NOT_SUPPORTED = 3 c"Not Supported"
    NO_PERMISSION = 4 c"Insufficient Permissions"
    NOT_FOUND = 6 c"Not Found"
    INSUFFICIENT_SIZE = 7 c"Insufficient Size"
    DRIVER_NOT_LOADED = 9 c"Driver Not Loaded"
    TIMEOUT = 10 c"Timeout"
    FUNCTION_NOT_FOUND = 13 c"Function Not Found"
    GPU_IS_LOST = 15 c"GPU is lost"
    RESET_REQUIRED = 16 c"GPU requires reset"
    LIB_RM_VERSION_MISMATCH = 18 c"Driver/library version mismatch"
    ARGUMENT_VERSION_MISMATCH = 25 c"Version mismatch"
    UNKNOWN = 999 c"Unknown Error"
}

impl From<Null> for Code {
    fn from(_: Null) -> Code {
        Code::INVALID_ARGUMENT
    }
}

pub fn of(call: impl FnOnce() -> Result<()>) -> Code {
    match call() {
        Ok(()) => Code::SUCCESS,
        Err(code) => code,
    }
}
