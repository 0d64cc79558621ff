//! Plain data that every other crate speaks: ids, tasks, states, readings, grants, reasons.
//!
//! Nothing here reads a clock, a file or a socket. Times are arguments, unknown figures are `None`.

mod allowance;
mod control;
mod device;
mod estimate;
mod home;
mod id;
mod reason;
mod recipe;
mod sentence;
mod task;

pub use allowance::Allowance;
pub use control::{Closing, Control, QueueMode, Switched};
pub use device::{
    Clocks, Device, DeviceId, DeviceKind, DeviceMemory, DeviceState, Finding, Health, Inventory, MigInstance,
    ProcessUse, Reading, Xid,
};
pub use estimate::{Adjustment, Basis, Breakdown, Estimate, Measurement};
pub use home::Home;
pub use id::{InvalidTaskId, TaskId};
pub use reason::{Failure, MemoryHolder, QuotaKind, WaitCause, WaitReason};
pub use recipe::{Command, FineTune, Loss, Method, Objective, Parallelism, Recipe, Schedule, TrainerKind};
pub use sentence::{Language, duration, gib};
pub use task::{
    AlonePace, Attempt, Condition, Demand, Dependency, DeviceGrant, Grant, Group, Priority, Progress, StateKind, Task,
    TaskState, Terms, Warning,
};
