//! NVIDIA GPUs through the driver's own library, loaded at run time.

mod card;
mod raw;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use domain::{Device, Finding};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::backend::finding;
use crate::card::{Card, Roll, Vendor};
use crate::kernel_log::KernelLog;
use crate::roster::numbered;
use crate::{Options, fault};
use card::NvidiaCard;

/// The library, and what the kernel says behind its back.
#[derive(Default)]
pub(crate) struct Driver {
    nvml: Option<Arc<Nvml>>,
    kernel_log: Option<KernelLog>,
    fallen: Fallen,
    seen: Seen,
}

/// The devices of each GPU as they were last seen, so that one that is lost keeps its name and UUID.
pub(crate) type Seen = Arc<Mutex<HashMap<u32, Vec<Device>>>>;

/// PCI addresses of GPUs that fell off the bus since the library was loaded, by whatever sign.
pub(crate) type Fallen = Arc<Mutex<HashSet<String>>>;

impl Driver {
    /// Adds the GPUs, or why there are none.
    pub fn call(&mut self, options: &Options, roll: &mut Roll) {
        match self.count(options) {
            Ok(0) => roll.findings.push(no_gpu()),
            Ok(count) => roll.cards.extend(numbered(Vendor::Nvidia, count)),
            Err(error) if library_is_absent(&error) => roll.findings.push(no_driver()),
            Err(error) => {
                let finding = fault::detection(&error);
                roll.detection_error = Some(finding.zh.clone());
                roll.findings.push(finding);
            }
        }
    }

    pub fn card(&self, number: u32) -> Option<Box<dyn Card>> {
        Some(Box::new(NvidiaCard::new(self.nvml.clone()?, number, self.fallen.clone(), self.seen.clone())))
    }

    /// The library is loaded anew at the next call. All cards must be dropped before.
    pub fn unload(&mut self) {
        *self = Driver { seen: self.seen.clone(), ..Driver::default() };
    }

    fn count(&mut self, options: &Options) -> Result<u32, NvmlError> {
        // A driver can be installed, loaded or repaired while the studio runs: a library that failed is tried again.
        let nvml = match self.nvml.take() {
            Some(nvml) => nvml,
            None => {
                let nvml = match &options.nvml_library {
                    Some(path) => Nvml::builder().lib_path(path.as_os_str()).init()?,
                    None => Nvml::init()?,
                };
                self.kernel_log = KernelLog::open();
                Arc::new(nvml)
            }
        };
        let count = nvml.device_count()?;
        self.nvml = Some(nvml);
        if let Some(log) = &mut self.kernel_log {
            self.fallen.lock().expect("no holder panics").extend(log.fallen());
        }
        Ok(count)
    }
}

/// There simply is no library, as on every machine without the driver.
fn library_is_absent(error: &NvmlError) -> bool {
    matches!(error, NvmlError::LibloadingError(error) if error.to_string().contains("No such file"))
}

fn no_driver() -> Finding {
    finding(
        "no-nvidia-driver",
        "未找到 NVIDIA 驱动，改用 CPU。如果本机有 NVIDIA GPU，请安装驱动（容器中请使用 --gpus all），之后会自动检测到。",
        "No NVIDIA driver was found, so the CPU is used. If the machine has an NVIDIA GPU, install its driver (in a \
         container, pass --gpus all); it is then found by itself.",
    )
}

fn no_gpu() -> Finding {
    finding(
        "no-nvidia-gpu",
        "NVIDIA 驱动正常，但没有 GPU，改用 CPU。请用 nvidia-smi -L 检查；在容器中请使用 --gpus all。",
        "The NVIDIA driver works but reports no GPU, so the CPU is used. Check with nvidia-smi -L; in a container, pass \
         --gpus all.",
    )
}

#[cfg(test)]
mod tests {
    use domain::DeviceKind;
    use jiff::Timestamp;

    use crate::{Options, detect};

    #[test]
    fn without_a_library_the_cpu_stands_in_and_a_finding_says_why() {
        let library = Some("/nonexistent/libnvidia-ml.so.1".into());
        let root = Some("/nonexistent".into());
        let options = Options { nvml_library: library, root, ..Options::default() };
        let inventory = detect(&options).sweep(Timestamp::UNIX_EPOCH);
        assert_eq!(inventory.detection_error, None, "no driver is not an error");
        assert_eq!(inventory.findings[0].code, "no-nvidia-driver");
        assert_eq!(inventory.devices.len(), 1);
        assert_eq!(inventory.devices[0].device.kind, DeviceKind::Cpu);
    }

    #[test]
    fn a_library_that_is_none_is_an_error_with_a_next_step() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        let library = Some(file.path().to_owned());
        let options = Options { nvml_library: library, root: Some("/nonexistent".into()), ..Options::default() };
        let inventory = detect(&options).sweep(Timestamp::UNIX_EPOCH);
        assert_eq!(inventory.findings[0].code, "nvml-broken");
        assert_eq!(inventory.detection_error.as_deref(), Some(inventory.findings[0].zh.as_str()));
        assert_eq!(inventory.gpus().count(), 0);
    }
}
