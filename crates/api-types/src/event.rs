//! Data of the events on `/api/v1/events` and `/api/v1/tasks/{id}/log/stream` (server-sent events).
//!
//! | event | data | has an id |
//! |---|---|---|
//! | `task` | [`TaskView`](crate::TaskView), on every transition | journal number |
//! | `removed` | [`RemovedEvent`] | journal number |
//! | `progress` | [`ProgressEvent`], at most 5 a second per task | no |
//! | `queue` | [`QueueEvent`], when positions, reasons or switches changed | no |
//! | `devices` | [`DeviceEvent`], when readings changed | no |
//! | `resync` | `{}`: too much was missed, fetch the lists again | newest journal number |
//! | `log` | [`LogChunk`], on the log stream only | byte offset after it |
//! | `end` | `{}`: the task has ended and its log is complete, on the log stream only | no |

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Devices, ProgressView, QueueControl, WaitView};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressEvent {
    pub task_id: String,
    pub progress: ProgressView,
}

/// The waiting tasks in the order in which they will start, at most the first 500.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueEvent {
    #[serde(flatten)]
    pub control: QueueControl,
    pub waiting: Vec<QueueEntry>,
    pub total: u64,
    /// More tasks wait than the configured limit.
    pub long: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueEntry {
    pub task_id: String,
    pub wait: WaitView,
}

pub type DeviceEvent = Devices;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RemovedEvent {
    pub task_id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogChunk {
    /// Byte offset of `text` in the log.
    pub offset: u64,
    /// Whole lines, invalid UTF-8 replaced.
    pub text: String,
}
