//! What attempts do to devices, and devices to attempts.

use std::collections::BTreeMap;

use domain::{
    DeviceId, DeviceState, Failure, Inventory, Language, MemoryHolder, Progress, Reading, TaskId, Warning, gib,
};

use crate::{View, machine::RunningTask};

/// States of a device from which no training on it comes back.
const LOST: [&str; 2] = ["gpu-lost", "gpu-needs-reset"];

/// The running attempts as the planner sees them.
pub fn holders(
    inventory: Option<&Inventory>,
    running: &BTreeMap<TaskId, RunningTask>,
    view: &View,
) -> Vec<scheduler::Running> {
    let holder = |(task, running): (&TaskId, &RunningTask)| {
        let progress = view.live(*task).progress;
        let grant = running.attempt.grant.clone();
        let used = |device: &DeviceId| used(inventory?.get(device)?, *task, &progress);
        let used = grant.devices.iter().map(|granted| used(&granted.device)).collect();
        scheduler::Running { task: *task, grant, used }
    };
    running.iter().map(holder).collect()
}

/// Bytes that a task holds on a device: by the driver's account, else by its own.
fn used(reading: &Reading, task: TaskId, progress: &Progress) -> Option<u64> {
    let mut own = reading.processes.iter().filter(|process| process.task == Some(task)).peekable();
    if own.peek().is_some() {
        return own.map(|process| process.bytes).sum::<Option<u64>>().or(progress.device_bytes);
    }
    // A process whose owner cannot be seen, as in a container, may be the task's.
    let hidden = reading.unattributed.is_none() || reading.processes.iter().any(|process| process.user.is_none());
    if hidden { progress.device_bytes } else { Some(progress.device_bytes.unwrap_or(0)) }
}

/// Tasks whose device is gone, with how that reads.
pub fn lost(inventory: &Inventory, running: &BTreeMap<TaskId, RunningTask>) -> Vec<(TaskId, Failure)> {
    let failure = |running: &RunningTask| {
        running.attempt.grant.devices.iter().find_map(|granted| {
            let reading = inventory.get(&granted.device)?;
            match &reading.state {
                DeviceState::Unusable { code, zh, en } if LOST.contains(&code.as_str()) => Some(Failure::DeviceLost {
                    device: format!("GPU {} ({})", reading.device.index, reading.device.name),
                    zh: zh.clone(),
                    en: en.clone(),
                }),
                _ => None,
            }
        })
    };
    running.iter().filter_map(|(task, running)| Some((*task, failure(running)?))).collect()
}

/// Tasks whose grants other programs have grown into, with whom to blame and how that reads.
pub fn squeezed(inventory: &Inventory, holders: &[scheduler::Running]) -> Vec<(TaskId, Option<u32>, Warning)> {
    let mut squeezed = Vec::new();
    for reading in inventory.devices.iter().filter(|reading| reading.is_usable()) {
        let Some((missing, blamed)) = scheduler::shortfall(reading, holders) else { continue };
        let blamed = blamed.first();
        for holder in holders {
            if holder.grant.devices.iter().any(|granted| granted.device == reading.device.id) {
                let pid = blamed.and_then(|blamed| blamed.pid);
                squeezed.push((holder.task, pid, warning(reading, missing, blamed)));
            }
        }
    }
    squeezed
}

fn warning(reading: &Reading, missing: u64, blamed: Option<&MemoryHolder>) -> Warning {
    let (index, missing) = (reading.device.index, gib(missing));
    let who = |language| blamed.map_or_else(String::new, |blamed| blamed.describe(language));
    Warning {
        code: "foreign-use".into(),
        zh: format!(
            "⚠️ 其他程序占用了预留给任务的显存：GPU {index} 还差 {missing}（{}）。训练可能因显存不足而中断",
            who(Language::Zh)
        ),
        en: format!(
            "another program has taken memory promised to this task: GPU {index} is {missing} short ({}). The training \
             may run out of memory",
            who(Language::En)
        ),
    }
}
