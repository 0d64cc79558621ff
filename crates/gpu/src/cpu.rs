use std::fs;

use domain::{Device, DeviceKind, DeviceMemory, Finding, Inventory, Reading};
use jiff::Timestamp;

use crate::Backend;
use crate::backend::finding;

/// The machine itself as the only device, with host memory.
pub struct CpuBackend {
    findings: Vec<Finding>,
    name: String,
}

impl CpuBackend {
    /// `findings` say why it is the CPU; they are part of every inventory.
    pub fn new(findings: Vec<Finding>) -> CpuBackend {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        CpuBackend { findings, name: model_name(&cpuinfo) }
    }
}

impl Backend for CpuBackend {
    fn sweep(&mut self, now: Timestamp) -> Inventory {
        Inventory {
            taken_at: now,
            devices: vec![reading(self.name.clone(), now)],
            findings: self.findings.clone(),
            detection_error: None,
        }
    }
}

fn reading(name: String, now: Timestamp) -> Reading {
    let device = Device::new("CPU", DeviceKind::Cpu, 0, name);
    match fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory(&text)) {
        Some(memory) => Reading::usable(device, memory, now),
        None => Reading::unusable(device, unreadable(), now),
    }
}

fn unreadable() -> Finding {
    finding(
        "host-memory-unreadable",
        "无法从 /proc/meminfo 读取主机内存。请确认 /proc 已挂载。",
        "host memory cannot be read from /proc/meminfo. Check that /proc is mounted.",
    )
}

/// Host memory in bytes; what the kernel could free at once counts as free.
pub(crate) fn memory(meminfo: &str) -> Option<DeviceMemory> {
    let bytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let total = bytes("MemTotal")?;
    let free = bytes("MemAvailable")?.min(total);
    Some(DeviceMemory { total, reserved: None, used: total - free, free })
}

/// Name of the processor as the kernel has it; ARM kernels give none.
fn model_name(cpuinfo: &str) -> String {
    let value = |key: &str| {
        cpuinfo.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key && !value.trim().is_empty()).then(|| value.trim().to_owned())
        })
    };
    value("model name").or_else(|| value("Model")).unwrap_or_else(|| format!("CPU ({})", std::env::consts::ARCH))
}

#[cfg(test)]
mod tests {
    use domain::{DeviceId, DeviceState};

    use super::*;

    #[test]
    fn memory_comes_from_total_and_available() {
        let text = "MemTotal:       16000000 kB\nMemFree:  100 kB\nMemAvailable:   12000000 kB\n";
        let memory = memory(text).unwrap();
        assert_eq!(memory.total, 16_000_000 * 1024);
        assert_eq!(memory.free, 12_000_000 * 1024);
        assert_eq!(memory.used, 4_000_000 * 1024);
        assert_eq!(super::memory("MemTotal: 5 kB\n"), None, "an unknown figure is never 0");
    }

    #[test]
    fn the_name_is_the_processors() {
        assert_eq!(model_name("processor\t: 0\nmodel name\t: Fast CPU @ 3GHz\nmodel\t: 85\n"), "Fast CPU @ 3GHz");
        assert_eq!(model_name("processor\t: 0\nBogoMIPS\t: 50\n"), format!("CPU ({})", std::env::consts::ARCH));
    }

    #[test]
    fn this_machine_is_one_usable_device() {
        let inventory = CpuBackend::new(Vec::new()).sweep(Timestamp::UNIX_EPOCH);
        let [reading] = &inventory.devices[..] else { panic!("one device: {inventory:?}") };
        assert_eq!(reading.device.id, DeviceId("CPU".into()));
        assert_eq!(reading.state, DeviceState::Usable);
        assert!(reading.memory.unwrap().total > 0);
        assert_eq!(inventory.gpus().count(), 0);
    }
}
