//! What travels over HTTP under `/api/v1`: requests, answers, events, errors.
//!
//! Sizes are bytes, durations seconds, times ISO 8601 in UTC; what is unknown is `null`.
//! The first generation's shapes are the server's own business (`server::studio_api`).

mod account;
mod device;
mod error;
mod estimate;
mod event;
mod queue;
mod request;
mod view;

pub use account::*;
pub use device::*;
pub use error::ErrorBody;
pub use estimate::*;
pub use event::{DeviceEvent, LogChunk, ProgressEvent, QueueEntry, QueueEvent, RemovedEvent};
pub use queue::*;
pub use request::{
    ArrayRange, CommandRequest, FineTuneRequest, LoraTargets, PasteDataset, PutBefore, SetMaintenance, SubmitGroup,
    SubmitTask, TaskPatch,
};
pub use view::*;
