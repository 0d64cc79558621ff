//! What GPUs there are and what is free on each: NVIDIA through its driver's own library, simulated ones, or the CPU.
//!
//! [`Worker`] keeps one thread that measures; nobody else waits for a driver.

mod backend;
mod cpu;
mod fault;
mod nvml;
mod options;
mod process;
mod simulated;
mod worker;

pub use backend::{Backend, detect};
pub use cpu::CpuBackend;
pub use nvml::NvmlBackend;
pub use options::{InvalidOption, Options};
pub use simulated::SimulatedBackend;
pub use worker::Worker;
