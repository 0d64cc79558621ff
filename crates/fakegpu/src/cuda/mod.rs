//! The exported `cu*` functions of the CUDA driver API: enough to find a device and to hold memory on it.

// The names are NVIDIA's.
#![allow(non_snake_case)]

mod code;
mod context;
mod device;
mod memory;
mod process;

pub use code::Code;

/// Defines exported functions: the body's errors become the returned code.
macro_rules! exports {
    ($($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$attribute])*
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $type),*) -> $crate::cuda::Code {
            $crate::cuda::code::of(move || $body)
        }
    )*};
}
use exports;
