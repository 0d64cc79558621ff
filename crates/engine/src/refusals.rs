//! Devices on which a trial allocation failed although the driver had said there was room.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use domain::{DeviceId, Inventory, MemoryHolder, TaskId, WaitCause};

/// A refused task tries the same device again after this, then after twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// So much more memory free than at the refusal and the device is tried at once.
const GAIN: u64 = 64 << 20;

#[derive(Default)]
pub struct Refusals {
    tasks: BTreeMap<TaskId, Refused>,
}

#[derive(Default)]
struct Refused {
    /// In a row.
    times: u32,
    devices: Vec<RefusedDevice>,
}

struct RefusedDevice {
    id: DeviceId,
    cause: WaitCause,
    until: Instant,
    /// Bytes; the least seen since.
    free: Option<u64>,
}

impl Refusals {
    pub fn add(&mut self, task: TaskId, device: DeviceId, cause: WaitCause, now: Instant) {
        let refused = self.tasks.entry(task).or_default();
        let pause = (FIRST_PAUSE * 2u32.saturating_pow(refused.times)).min(LONGEST_PAUSE);
        refused.times += 1;
        refused.devices.retain(|known| known.id != device);
        refused.devices.push(RefusedDevice { id: device, cause, until: now + pause, free: None });
    }

    /// The task runs, or is gone.
    pub fn forget(&mut self, task: TaskId) {
        self.tasks.remove(&task);
    }

    /// Takes a look at who is on the devices now, and lifts the refusals whose time has come.
    pub fn update(&mut self, inventory: Option<&Inventory>, now: Instant) {
        for refused in self.tasks.values_mut() {
            refused.devices.retain_mut(|device| {
                let reading = inventory.and_then(|inventory| inventory.get(&device.id));
                let free = reading.and_then(|reading| reading.memory).map(|memory| memory.free);
                let gained = matches!((free, device.free), (Some(free), Some(least)) if free > least + GAIN);
                device.free = [free, device.free].into_iter().flatten().min();
                let foreign = reading.into_iter().flat_map(|reading| &reading.processes);
                let foreign = foreign.filter(|process| process.task.is_none()).max_by_key(|process| process.bytes);
                if let (WaitCause::TrialFailed { holder, .. }, Some(process)) = (&mut device.cause, foreign) {
                    *holder = Some(MemoryHolder {
                        pid: Some(process.pid),
                        name: process.service.clone().or_else(|| process.name.clone()),
                        bytes: process.bytes,
                        task: None,
                    });
                }
                device.until > now && !gained
            });
        }
    }

    pub fn of(&self, task: TaskId) -> Vec<(DeviceId, WaitCause)> {
        let devices = self.tasks.get(&task).map_or(&[][..], |refused| &refused.devices[..]);
        devices.iter().map(|device| (device.id.clone(), device.cause.clone())).collect()
    }

    /// When the next refusal ends.
    pub fn next(&self) -> Option<Instant> {
        self.tasks.values().flat_map(|refused| &refused.devices).map(|device| device.until).min()
    }

    pub fn tasks(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Device, DeviceKind, DeviceMemory, ProcessUse, Reading};
    use jiff::Timestamp;

    fn inventory(free: u64) -> Inventory {
        let device = Device::new("GPU-a", DeviceKind::Nvidia, 0, "Card");
        let memory = DeviceMemory { total: 80 << 30, reserved: None, used: (80 << 30) - free, free };
        let mut reading = Reading::usable(device, memory, Timestamp::UNIX_EPOCH);
        reading.processes = vec![ProcessUse { name: Some("vllm".into()), ..ProcessUse::new(7, Some(61 << 30)) }];
        Inventory { taken_at: Timestamp::UNIX_EPOCH, devices: vec![reading], findings: vec![], detection_error: None }
    }

    #[test]
    fn a_refusal_ends_with_its_time_or_with_memory_that_became_free_and_pauses_grow() {
        let (task, device) = (TaskId::new(0, 1), DeviceId("GPU-a".into()));
        let cause = WaitCause::TrialFailed {
            device: "GPU 0".into(),
            needed: 9 << 30,
            free: None,
            holder: None,
            message: String::new(),
        };
        let now = Instant::now();
        let mut refusals = Refusals::default();
        refusals.add(task, device.clone(), cause.clone(), now);
        refusals.update(Some(&inventory(19 << 30)), now);
        let refused = refusals.of(task);
        let [(_, WaitCause::TrialFailed { holder: Some(holder), .. })] = &refused[..] else { panic!("{refused:?}") };
        assert_eq!((holder.pid, holder.name.as_deref()), (Some(7), Some("vllm")), "whoever is there now is named");

        refusals.update(Some(&inventory(80 << 30)), now);
        assert_eq!(refusals.of(task), [], "memory became free");

        refusals.add(task, device.clone(), cause.clone(), now);
        assert_eq!(refusals.next(), Some(now + 2 * FIRST_PAUSE));
        refusals.update(None, now + 2 * FIRST_PAUSE);
        assert_eq!(refusals.of(task), []);
        for _ in 0..40 {
            refusals.add(task, device.clone(), cause.clone(), now);
        }
        assert_eq!(refusals.next(), Some(now + LONGEST_PAUSE));
    }
}
