use domain::{Finding, Inventory};
use jiff::Timestamp;

use crate::{CpuBackend, NvmlBackend, Options, SimulatedBackend};

/// Something that can be asked for all devices. A device it cannot read is in the answer, as unusable.
pub trait Backend: Send {
    fn sweep(&mut self, now: Timestamp) -> Inventory;
}

/// The back end for these options: simulated GPUs if asked for, else NVIDIA's, with the CPU standing in for none.
pub fn detect(options: &Options) -> Box<dyn Backend> {
    if let Some((count, memory)) = options.simulated() {
        return Box::new(SimulatedBackend::new(count, memory));
    }
    if options.disable_nvml {
        return Box::new(CpuBackend::new(vec![nvml_disabled()]));
    }
    Box::new(NvmlBackend::new(options.nvml_library.clone()))
}

pub(crate) fn finding(code: &str, zh: impl Into<String>, en: impl Into<String>) -> Finding {
    Finding { code: code.into(), zh: zh.into(), en: en.into() }
}

fn nvml_disabled() -> Finding {
    finding(
        "nvml-disabled",
        "SAGE_DISABLE_NVML 已设置，未检测 NVIDIA GPU，改用 CPU。取消该环境变量并重启即可启用检测。",
        "SAGE_DISABLE_NVML is set, so NVIDIA GPUs are not looked for and the CPU is used. Unset it and restart to use them.",
    )
}
