//! What GPUs there are, what is free on each and who has the rest: NVIDIA through its driver's own library, AMD and Intel
//! through the kernel's files, simulated ones, or the CPU.
//!
//! - [`Worker`] keeps measuring for the studio, [`sweep_once`] measures once for a command. Drivers hang at times, so
//!   both ask them in another process, [`worker_main`].
//! - [`trial`] allocates what a task is about to get, in a process of its own, [`trial_main`].
//! - [`doctor`] looks for what keeps GPUs from being used.

mod amd;
mod backend;
mod card;
mod command_line;
mod cpu;
mod cuda;
mod doctor;
mod drm;
mod fault;
mod intel;
mod kernel_log;
mod nvml;
mod options;
mod picture;
mod process;
mod roster;
mod simulated;
mod trial;
mod trial_process;
mod worker;
mod worker_process;

pub use backend::{Backend, detect};
pub use cpu::CpuBackend;
pub use doctor::{Check, Status, doctor};
pub use options::{InvalidOption, Options, Service};
pub use simulated::SimulatedBackend;
pub use trial::{Trial, TrialError, TrialReport, trial};
pub use trial_process::trial_main;
pub use worker::{Worker, sweep_once};
pub use worker_process::worker_main;
