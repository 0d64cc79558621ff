//! Intel's discrete GPUs through the files of the kernel drivers i915 and xe.

use domain::{Clocks, Device, DeviceKind, DeviceMemory, Reading};
use jiff::Timestamp;

use crate::card::{Card, CardReading};
use crate::drm::{self, DrmCard, number};
use crate::process::{Processes, unattributed};
use crate::{Options, fault};

/// Where the graphics in Intel's processors always is.
const INTEGRATED: &str = "0000:00:02.0";

/// Left alone where the driver does not say what it keeps for itself.
const KERNEL: u64 = 512 << 20;

/// One card. Its id is `INTEL-` and the PCI address.
pub(crate) struct IntelCard {
    card: DrmCard,
    processes: Processes,
}

/// All that have memory of their own.
pub(crate) fn cards(options: &Options) -> Vec<DrmCard> {
    let mut cards = drm::cards(options, &["i915", "xe"]);
    cards.retain(|card| card.pci != INTEGRATED);
    cards
}

impl IntelCard {
    pub fn new(card: DrmCard) -> IntelCard {
        IntelCard { card, processes: Processes::default() }
    }

    fn identify(&self, options: &Options) -> Device {
        let name = self.card.name(options).unwrap_or_else(|| "Intel GPU".into());
        let id = format!("INTEL-{}", self.card.pci);
        Device { pci_bus_id: Some(self.card.pci.clone()), ..Device::new(id, DeviceKind::Intel, 0, name) }
    }

    /// Bytes of the card, and of those the free ones where the driver has them.
    fn memory(&self) -> Option<(u64, Option<u64>)> {
        let i915 = |file: &str| number(&self.card.folder.join(file));
        if let Some(total) = i915("lmem_total_bytes") {
            return Some((total, i915("lmem_avail_bytes")));
        }
        let tile = |number: u32| self.card.device.join(format!("tile{number}/physical_vram_size_bytes"));
        let total: u64 = (0..4).filter_map(|tile_number| number(&tile(tile_number))).sum();
        (total > 0).then_some((total, None))
    }

    fn clocks(&self) -> Option<Clocks> {
        let i915 = number(&self.card.folder.join("gt_act_freq_mhz"));
        let mhz = i915.or_else(|| number(&self.card.device.join("tile0/gt0/freq0/act_freq")))?;
        Some(Clocks { graphics: mhz as u32, memory: None })
    }
}

impl Card for IntelCard {
    fn read(&mut self, options: &Options, now: Timestamp) -> CardReading {
        let device = self.identify(options);
        let clients = drm::clients(options, &self.card.pci, &["vram0", "vram1", "local0", "local1"]);
        let listed: u64 = clients.uses.values().sum();
        let memory = self.memory().and_then(|(total, free)| {
            // Where the driver does not say what is free, the sum over all processes does, if all can be seen.
            let free = free.or_else(|| clients.are_all.then(|| total.saturating_sub(listed + KERNEL)))?;
            Some(DeviceMemory { total, reserved: None, used: total.saturating_sub(free), free })
        });
        let uses: Vec<(u32, Option<u64>)> = clients.uses.into_iter().map(|(pid, bytes)| (pid, Some(bytes))).collect();
        let mut reading = match (memory, self.card.obstacle(options)) {
            (None, _) => Reading::unusable(device, fault::intel_memory_unknown(), now),
            (Some(memory), Some(finding)) => {
                Reading { memory: Some(memory), ..Reading::unusable(device, finding, now) }
            }
            (Some(memory), None) => Reading::usable(device, memory, now),
        };
        reading.processes = self.processes.describe(&uses, options);
        reading.unattributed = memory.and_then(|memory| unattributed(&memory, &reading.processes));
        self.card.read_sensors(&mut reading);
        reading.clocks = self.clocks().or(reading.clocks);
        CardReading { readings: vec![reading], ..CardReading::default() }
    }
}
