use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

const DEFAULT_MOCK_MEMORY_GB: f64 = 24.0;
/// A healthy driver answers in milliseconds; one that wakes a sleeping GPU may need a second.
const DEADLINE: Duration = Duration::from_secs(2);
const MOST_MOCKS: u32 = 64;

/// What to look for, and what to recognise on it. The default looks for real GPUs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// So many simulated GPUs in place of whatever the machine has; `None` or 0: none.
    pub mock_count: Option<u32>,
    /// Memory of each simulated GPU in GiB; `None`: 24.
    pub mock_memory_gb: Option<f64>,
    /// Never load the NVIDIA library.
    pub disable_nvml: bool,
    /// The NVIDIA library to load; `None`: where the system's loader finds `libnvidia-ml.so.1`.
    pub nvml_library: Option<PathBuf>,
    /// `$SAGE_HOME` of the studio whose tasks count as ours; `None`: every process is foreign.
    pub home: Option<PathBuf>,
    /// Inference services that somebody registered; they come before those known by their command line.
    pub services: Vec<Service>,
    /// How long a sweep may take before it goes on without the devices that are still silent; `None`: 2 s.
    pub deadline: Option<Duration>,
    /// The folder that holds `sys` and `proc`; `None`: `/`.
    pub root: Option<PathBuf>,
}

/// An inference service that shares the GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    /// Part of the command line of its processes.
    pub command_contains: String,
}

/// A variable of the environment that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is {value:?}: expected {expected}. Correct it or unset it")]
pub struct InvalidOption {
    pub variable: &'static str,
    pub value: String,
    pub expected: &'static str,
}

impl Options {
    /// Reads `SAGE_GPU_MOCK_COUNT`, `SAGE_GPU_MOCK_MEMORY_GB` and `SAGE_DISABLE_NVML`.
    pub fn from_env() -> Result<Options, InvalidOption> {
        Options::from_variables(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Options, InvalidOption> {
        let read = |name: &'static str| variable(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let invalid = |variable, value: &str, expected| InvalidOption { variable, value: value.to_owned(), expected };

        let count = "SAGE_GPU_MOCK_COUNT";
        let mock_count = match read(count) {
            None => None,
            Some(value) => match value.parse() {
                Ok(number) if number <= MOST_MOCKS => Some(number),
                _ => return Err(invalid(count, &value, "a whole number from 0 to 64")),
            },
        };
        let memory = "SAGE_GPU_MOCK_MEMORY_GB";
        let mock_memory_gb = match read(memory) {
            None => None,
            Some(value) => match value.parse::<f64>() {
                Ok(number) if number > 0.0 && number <= 4096.0 => Some(number),
                _ => return Err(invalid(memory, &value, "a number of GiB above 0 and up to 4096")),
            },
        };
        let disable = "SAGE_DISABLE_NVML";
        let disable_nvml = match read(disable).as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("0" | "false" | "no" | "off") => false,
            Some("1" | "true" | "yes" | "on") => true,
            Some(value) => return Err(invalid(disable, value, "1 or 0")),
        };
        Ok(Options { mock_count, mock_memory_gb, disable_nvml, ..Options::default() })
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline.unwrap_or(DEADLINE)
    }

    /// `root/sys/class/drm` for `sys/class/drm`.
    pub(crate) fn path(&self, below_root: &str) -> PathBuf {
        self.root.as_deref().unwrap_or(Path::new("/")).join(below_root)
    }

    /// Number and memory in bytes of the simulated GPUs, if there shall be some.
    pub(crate) fn simulated(&self) -> Option<(u32, u64)> {
        let count = self.mock_count.filter(|count| *count > 0)?;
        let gib = self.mock_memory_gb.unwrap_or(DEFAULT_MOCK_MEMORY_GB);
        Some((count, (gib * (1u64 << 30) as f64) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Options, InvalidOption> {
        Options::from_variables(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| v.to_string()))
    }

    #[test]
    fn variables_are_read_and_nonsense_is_refused() {
        assert_eq!(from(&[]).unwrap(), Options::default());
        assert_eq!(from(&[]).unwrap().simulated(), None);
        assert_eq!(from(&[("SAGE_GPU_MOCK_COUNT", "0")]).unwrap().simulated(), None);
        assert_eq!(from(&[("SAGE_GPU_MOCK_COUNT", "2")]).unwrap().simulated(), Some((2, 24 << 30)));
        let options = from(&[("SAGE_GPU_MOCK_COUNT", "1"), ("SAGE_GPU_MOCK_MEMORY_GB", "11.5")]).unwrap();
        assert_eq!(options.simulated(), Some((1, 23 << 29)));
        assert!(from(&[("SAGE_DISABLE_NVML", "1")]).unwrap().disable_nvml);
        assert!(!from(&[("SAGE_DISABLE_NVML", "0")]).unwrap().disable_nvml);

        for (name, value) in [
            ("SAGE_GPU_MOCK_COUNT", "two"),
            ("SAGE_GPU_MOCK_COUNT", "-1"),
            ("SAGE_GPU_MOCK_COUNT", "65"),
            ("SAGE_GPU_MOCK_MEMORY_GB", "0"),
            ("SAGE_GPU_MOCK_MEMORY_GB", "NaN"),
            ("SAGE_GPU_MOCK_MEMORY_GB", "inf"),
            ("SAGE_DISABLE_NVML", "maybe"),
        ] {
            let error = from(&[(name, value)]).unwrap_err();
            assert_eq!((error.variable, error.value.as_str()), (name, value));
        }
    }
}
