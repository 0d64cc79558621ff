use domain::{Device, DeviceKind, DeviceMemory, Inventory, Reading};
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

    fn reading(&self, index: u32, now: Timestamp) -> Reading {
        let id = format!("SIM-{index}");
        let device = Device::new(id, DeviceKind::Simulated, index, format!("Simulated GPU {index}"));
        let memory = DeviceMemory { total: self.memory, reserved: None, used: 0, free: self.memory };
        Reading::usable(device, memory, now)
    }
}

impl Backend for SimulatedBackend {
    fn sweep(&mut self, now: Timestamp) -> Inventory {
        let count = self.count;
        Inventory {
            taken_at: now,
            devices: (0..count).map(|index| self.reading(index, now)).collect(),
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
