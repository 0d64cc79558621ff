//! What travels over HTTP under `/api/v1`: requests, answers, events, errors.
//!
//! Sizes are bytes, durations seconds, times ISO 8601 in UTC; what is unknown is `null`.
//! The first generation's shapes are the server's own business (`server::studio_api`).

mod error;
mod event;
mod request;
mod view;

pub use error::ErrorBody;
pub use event::{DeviceEvent, LogChunk, ProgressEvent, QueueEntry, QueueEvent, RemovedEvent};
pub use request::{CommandRequest, FineTuneRequest, PasteDataset, SubmitTask};
pub use view::*;
