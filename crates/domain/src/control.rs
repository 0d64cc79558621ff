use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::DeviceId;

/// What people have switched by hand for the whole queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Control {
    pub mode: QueueMode,
    /// The pause in force when the queue was set to drain; it still is.
    pub pause: Option<Switched>,
    /// Forgotten at the next start.
    pub closing: Option<Closing>,
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

/// The studio is to stop when nothing is left: no new tasks are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    pub by: Switched,
    /// What waits still starts when its turn comes.
    pub starts: bool,
}

impl Control {
    /// Who has set it so that no new tasks are accepted.
    pub fn refuses(&self) -> Option<&Switched> {
        let draining = match &self.mode {
            QueueMode::Draining(switched) => Some(switched),
            QueueMode::Open | QueueMode::Paused(_) => None,
        };
        self.closing.as_ref().map(|closing| &closing.by).or(draining)
    }

    /// Who has set it so that nothing starts.
    pub fn pauses(&self) -> Option<&Switched> {
        let closing = self.closing.as_ref().filter(|closing| !closing.starts).map(|closing| &closing.by);
        let paused = match &self.mode {
            QueueMode::Paused(switched) => Some(switched),
            QueueMode::Open | QueueMode::Draining(_) => None,
        };
        closing.or(paused).or(self.pause.as_ref())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switched {
    pub by: String,
    pub at: Timestamp,
}
