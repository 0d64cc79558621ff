use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::DeviceId;

/// What people have switched by hand for the whole queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Control {
    pub mode: QueueMode,
    /// Devices on which nothing new starts, until somebody gives them back.
    pub maintenance: BTreeMap<DeviceId, Switched>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum QueueMode {
    #[default]
    Open,
    /// Nothing starts; what runs goes on, and new tasks are accepted.
    Paused(Switched),
    /// No new tasks are accepted; what was accepted runs to its end.
    Draining(Switched),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switched {
    pub by: String,
    pub at: Timestamp,
}
