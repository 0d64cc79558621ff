use std::sync::Arc;

use domain::{Progress, TaskId};

use crate::{DeviceStatus, TaskSnapshot, Waits};

/// What subscribers are told, after it is durable. `seq` is the journal number.
#[derive(Debug, Clone)]
pub enum Event {
    Task { seq: u64, snapshot: Arc<TaskSnapshot> },
    Removed { seq: u64, task: TaskId },
    Progress { task: TaskId, progress: Arc<Progress> },
    Queue(Arc<Waits>),
    Devices(Arc<DeviceStatus>),
}
