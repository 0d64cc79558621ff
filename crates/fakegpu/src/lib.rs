//! NVIDIA GPUs that are not there, for tests and demonstrations: one shared object that is `libnvidia-ml.so.1` and
//! `libcuda.so.1` at once, and the Rust side that sets the stage.
//!
//! Both libraries answer from a folder, `$FAKEGPU_DIR`: `state.json` says what the machine looks like and is read again
//! at every call, so that a change shows in programs that already run; `claims/` holds what live processes have
//! allocated through the CUDA driver API, and a claim ends with its process.
//!
//! ```no_run
//! use fakegpu::{ExternalProcess, Folder, State};
//!
//! let state: State = "8xH100".parse().unwrap();
//! let folder = Folder::create("/tmp/eight", &state).unwrap();
//! let mut program = std::process::Command::new("sage");
//! program.args(["gpu"]).envs(folder.env());
//! // Later, while it runs: somebody else takes 61 GB, then the next GPU falls off the bus.
//! folder.update(|state| {
//!     state.gpus[0].processes.push(ExternalProcess::compute(4711, "vllm", 61_000_000_000));
//!     state.gpus[1].xids.push(79);
//!     state.gpus[1].lost = true;
//! });
//! ```

mod bytes;
mod cards;
mod claims;
pub mod cuda;
pub mod driver;
mod ffi;
mod folder;
mod memory;
pub mod nvml;
mod state;

pub use bytes::parse_bytes;
pub use cards::UnknownCard;
pub use claims::Claim;
pub use folder::Folder;
pub use state::{
    Architecture, Arrival, Clocks, Cuda, Ecc, ExternalProcess, Gpu, MemoryReport, Mig, MigInstance, ProcessKind,
    ProcessList, State,
};
