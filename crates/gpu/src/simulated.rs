use domain::{Device, DeviceId, DeviceKind, DeviceMemory, DeviceState, Inventory, Reading};
use jiff::Timestamp;

use crate::Backend;
use crate::backend::finding;

/// GPUs that do not exist, for trying the queue out. They say so in their names and ids.
pub struct SimulatedBackend {
    count: u32,
    /// Bytes of each.
    memory: u64,
}

impl SimulatedBackend {
    pub fn new(count: u32, memory: u64) -> SimulatedBackend {
        SimulatedBackend { count, memory }
    }

    fn reading(&self, index: u32) -> Reading {
        Reading {
            device: Device {
                id: DeviceId(format!("SIM-{index}")),
                kind: DeviceKind::Simulated,
                index,
                name: format!("Simulated GPU {index}"),
                pci_bus_id: None,
            },
            state: DeviceState::Usable,
            memory: Some(DeviceMemory { total: self.memory, reserved: None, used: 0, free: self.memory }),
            utilisation: None,
            temperature: None,
            power: None,
            processes: Vec::new(),
        }
    }
}

impl Backend for SimulatedBackend {
    fn sweep(&mut self, now: Timestamp) -> Inventory {
        let count = self.count;
        Inventory {
            taken_at: now,
            devices: (0..count).map(|index| self.reading(index)).collect(),
            findings: vec![finding(
                "simulated-gpus",
                format!(
                    "{count} 块 GPU 是模拟的（SAGE_GPU_MOCK_COUNT），训练在 CPU 上运行。取消该环境变量并重启即可使用真实设备。"
                ),
                format!(
                    "{count} simulated GPU(s) (SAGE_GPU_MOCK_COUNT); training runs on the CPU. Unset it and restart to use real devices."
                ),
            )],
            detection_error: None,
        }
    }
}
