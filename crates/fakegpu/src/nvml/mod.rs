//! The exported `nvml*` functions. Structures are those of `nvml_wrapper_sys`, which come from NVIDIA's header.

// The names are NVIDIA's.
#![allow(non_snake_case)]

mod absent;
mod board;
mod code;
mod event;
mod handle;
mod identity;
mod mig;
mod process;
mod system;

pub use code::Code;

/// Defines exported functions: the body's errors become the returned code.
macro_rules! exports {
    ($($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$attribute])*
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $type),*) -> $crate::nvml::Code {
            $crate::nvml::code::of(move || $body)
        }
    )*};
}
use exports;
