use domain::{Finding, Inventory};
use jiff::Timestamp;

use crate::roster::RealBackend;
use crate::{CpuBackend, Options, SimulatedBackend, amd, intel};

/// Something that can be asked for all devices. A device it cannot read is in the answer, as unusable.
pub trait Backend: Send {
    fn sweep(&mut self, now: Timestamp) -> Inventory;
}

/// The back end for these options: simulated GPUs if asked for, else all that NVIDIA's, AMD's and Intel's drivers show,
/// with the CPU standing in for none.
///
/// It calls drivers on the caller's thread and hangs when they do; [`Worker`](crate::Worker) and
/// [`sweep_once`](crate::sweep_once) do not.
pub fn detect(options: &Options) -> Box<dyn Backend> {
    local(options).unwrap_or_else(|| Box::new(RealBackend::new(options.clone())))
}

/// The back end for these options if it calls no driver.
pub(crate) fn local(options: &Options) -> Option<Box<dyn Backend>> {
    if let Some((count, memory)) = options.simulated() {
        return Some(Box::new(SimulatedBackend::new(count, memory)));
    }
    let is_without_gpu = options.disable_nvml && amd::cards(options).is_empty() && intel::cards(options).is_empty();
    is_without_gpu.then(|| Box::new(CpuBackend::new(vec![nvml_disabled()])) as Box<dyn Backend>)
}

pub(crate) fn finding(code: &str, zh: impl Into<String>, en: impl Into<String>) -> Finding {
    Finding { code: code.into(), zh: zh.into(), en: en.into() }
}

pub(crate) fn nvml_disabled() -> Finding {
    finding(
        "nvml-disabled",
        "SAGE_DISABLE_NVML 已设置，未检测 NVIDIA GPU，改用 CPU。取消该环境变量并重启即可启用检测。",
        "SAGE_DISABLE_NVML is set, so NVIDIA GPUs are not looked for and the CPU is used. Unset it and restart to use them.",
    )
}
