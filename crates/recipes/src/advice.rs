//! What fits the detected devices: the banner's sentence, base models, warnings before a start.

use domain::{FineTune, Inventory, Warning};
use serde::Serialize;

/// Answer of `GET /api/system/gpu-info`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GpuInfo {
    pub available: bool,
    pub count: usize,
    pub devices: Vec<GpuInfoDevice>,
    pub recommendation: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GpuInfoDevice {
    pub id: u32,
    pub name: String,
    /// GiB, to one decimal.
    pub memory_gb: f64,
}

/// Answer of `GET /api/finetune/models/base`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BaseModels {
    /// Those that fit the detected device, whatever it is; the name is what old pages read.
    pub recommended_for_rtx3060: Vec<BaseModel>,
    pub advanced_models: Vec<BaseModel>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BaseModel {
    /// Hub id.
    pub name: &'static str,
    /// Such as `1.5B`.
    pub size: &'static str,
    pub vram_required: &'static str,
    pub description: &'static str,
    pub training_time: &'static str,
}

impl GpuInfo {
    /// While detection has not answered yet.
    pub fn detecting() -> GpuInfo {
        GpuInfo { available: false, count: 0, devices: Vec::new(), recommendation: "正在检测 GPU...".into() }
    }
}

pub fn gpu_info(inventory: &Inventory) -> GpuInfo {
    let _ = inventory;
    todo!()
}

pub fn base_models(inventory: &Inventory) -> BaseModels {
    let _ = inventory;
    todo!()
}

/// What the user should know before a fine-tune starts on these devices.
pub fn preflight(recipe: &FineTune, inventory: &Inventory) -> Vec<Warning> {
    let _ = (recipe, inventory);
    todo!()
}
