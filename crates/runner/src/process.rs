use serde::{Deserialize, Serialize};

/// A process for ever: its pid may be used again, the three together are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    pub boot_id: String,
    pub pid: u32,
    /// Clock ticks from boot to the start of the process.
    pub start_time: u64,
}
