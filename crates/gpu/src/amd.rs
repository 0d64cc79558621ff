//! AMD GPUs through the files of the kernel driver amdgpu.

use std::collections::BTreeMap;
use std::fs;

use domain::{Device, DeviceKind, DeviceMemory, Health, Reading};
use jiff::Timestamp;

use crate::card::{Card, CardReading};
use crate::drm::{self, DrmCard, number, text};
use crate::process::{Processes, unattributed};
use crate::{Options, fault};

/// Graphics in processors take some of the host's memory; nobody trains in less than this.
const LEAST_MEMORY: u64 = 4 << 30;

/// One card. Its id is `AMD-` and the driver's unique id, which ROCm writes after `GPU-`, or else the PCI address.
pub(crate) struct AmdCard {
    card: DrmCard,
    processes: Processes,
}

/// All with memory of their own that is worth mentioning.
pub(crate) fn cards(options: &Options) -> Vec<DrmCard> {
    let mut cards = drm::cards(options, &["amdgpu"]);
    cards.retain(|card| number(&card.device.join("mem_info_vram_total")).is_none_or(|total| total >= LEAST_MEMORY));
    cards
}

impl AmdCard {
    pub fn new(card: DrmCard) -> AmdCard {
        AmdCard { card, processes: Processes::default() }
    }

    fn identify(&self, options: &Options) -> Device {
        let unique_id = text(&self.card.device.join("unique_id"));
        let id = format!("AMD-{}", unique_id.as_ref().unwrap_or(&self.card.pci));
        let name = self.card.name(options).unwrap_or_else(|| "AMD GPU".into());
        Device { pci_bus_id: Some(self.card.pci.clone()), ..Device::new(id, DeviceKind::Amd, 0, name) }
    }

    /// The driver counts what it keeps itself among the used.
    fn memory(&self) -> Option<DeviceMemory> {
        let value = |file: &str| number(&self.card.device.join(file));
        let (total, used) = (value("mem_info_vram_total")?, value("mem_info_vram_used")?);
        Some(DeviceMemory { total, reserved: None, used, free: total.saturating_sub(used) })
    }

    /// By pid. The compute driver tells of everybody, the graphics driver of whom this user may look at.
    fn uses(&self, options: &Options) -> Vec<(u32, Option<u64>)> {
        let mut uses = drm::clients(options, &self.card.pci, &["vram"]).uses;
        for (pid, bytes) in compute_processes(options, self.card.render_node.as_deref()) {
            let known = uses.entry(pid).or_default();
            *known = bytes.max(*known);
        }
        uses.into_iter().map(|(pid, bytes)| (pid, Some(bytes))).collect()
    }
}

impl Card for AmdCard {
    fn read(&mut self, options: &Options, now: Timestamp) -> CardReading {
        let device = self.identify(options);
        let obstacle = self.card.obstacle(options);
        let reading = match (self.memory(), obstacle) {
            (None, _) => Reading::unusable(device, fault::memory_unknown(&"mem_info_vram_used"), now),
            (Some(memory), obstacle) => {
                let mut reading = match obstacle {
                    None => Reading::usable(device, memory, now),
                    Some(finding) => Reading { memory: Some(memory), ..Reading::unusable(device, finding, now) },
                };
                reading.processes = self.processes.describe(&self.uses(options), options);
                reading.unattributed = unattributed(&memory, &reading.processes);
                reading.utilisation = number(&self.card.device.join("gpu_busy_percent")).map(|percent| percent as u32);
                reading.health = Health { uncorrected_ecc_errors: uncorrected(&self.card), ..Health::default() };
                self.card.read_sensors(&mut reading);
                reading
            }
        };
        CardReading { readings: vec![reading], ..CardReading::default() }
    }
}

/// Of the memory; `None` on cards without error correction.
fn uncorrected(card: &DrmCard) -> Option<u64> {
    let counts = text(&card.device.join("ras/umc_err_count"))?;
    counts.lines().find_map(|line| line.strip_prefix("ue:"))?.trim().parse().ok()
}

/// Processes that compute on the card, with their bytes there.
fn compute_processes(options: &Options, render_node: Option<&str>) -> BTreeMap<u32, u64> {
    let kfd = options.path("sys/class/kfd/kfd");
    let node = fs::read_dir(kfd.join("topology/nodes")).into_iter().flatten().flatten().find(|node| {
        let properties = text(&node.path().join("properties")).unwrap_or_default();
        let minor = properties.lines().find_map(|line| line.strip_prefix("drm_render_minor "));
        minor.is_some_and(|minor| render_node == Some(&format!("renderD{}", minor.trim())))
    });
    let Some(gpu) = node.and_then(|node| text(&node.path().join("gpu_id"))) else { return BTreeMap::new() };
    let processes = fs::read_dir(kfd.join("proc")).into_iter().flatten().flatten();
    let uses = processes.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        Some((pid, number(&process.path().join(format!("vram_{gpu}")))?))
    });
    uses.filter(|(_, bytes)| *bytes > 0).collect()
}
