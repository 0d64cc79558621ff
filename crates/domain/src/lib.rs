//! Plain data that every other crate speaks: ids, tasks, states, readings, grants, reasons.
//!
//! Nothing here reads a clock, a file or a socket. Times are arguments, unknown figures are `None`.

mod device;
mod home;
mod id;
mod reason;
mod recipe;
mod task;

pub use device::{Device, DeviceId, DeviceKind, DeviceMemory, DeviceState, Finding, Inventory, ProcessUse, Reading};
pub use home::Home;
pub use id::{InvalidTaskId, TaskId};
pub use reason::{Failure, Language, WaitCause, WaitReason};
pub use recipe::{Command, FineTune, Recipe, Schedule, TrainerKind};
pub use task::{Attempt, DeviceGrant, Grant, Progress, StateKind, Task, TaskState, Warning};
