use serde::{Deserialize, Serialize};

/// What one user may have of the machine. `None`: as much as there is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Allowance {
    /// Share of the GPU time among users who want more than there is, relative to the others' weights; above 0.
    pub weight: f64,
    /// Tasks that run at once.
    pub running: Option<u32>,
    /// Tasks that wait at once, held ones included.
    pub queued: Option<u32>,
    /// GPUs in use at once.
    pub gpus: Option<u32>,
    /// GPU-hours of the last 24 hours.
    pub gpu_hours_per_day: Option<f64>,
    /// Bytes of uploads and task folders.
    pub disk_bytes: Option<u64>,
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance { weight: 1.0, running: None, queued: None, gpus: None, gpu_hours_per_day: None, disk_bytes: None }
    }
}
