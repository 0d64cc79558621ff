//! What is known of all cards, put together from answers that come when they come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domain::{Device, DeviceKind, DeviceState, Finding, Inventory, Reading};
use jiff::Timestamp;

use crate::card::{Answer, CardId, CardReading, Roll, Vendor};
use crate::{Backend, CpuBackend, fault};

#[derive(Default)]
pub(crate) struct Picture {
    roll: Option<Roll>,
    cards: BTreeMap<CardId, Known>,
    /// Devices that fell off the bus and are in no listing any more.
    lost: Vec<Reading>,
    /// When a sweep was asked for that has not even begun.
    unbegun: Option<Instant>,
    /// Of the present sweep.
    asked: Option<Instant>,
    /// Nobody can be asked.
    trouble: Option<Finding>,
}

#[derive(Default)]
struct Known {
    reading: Option<CardReading>,
    /// The oldest question that it has not answered.
    asked: Option<Instant>,
}

impl Picture {
    /// A sweep is asked for now.
    pub fn ask(&mut self, now: Instant) {
        self.asked = Some(now);
        self.unbegun = Some(now);
        self.trouble = None;
        for card in self.cards.values_mut() {
            card.asked.get_or_insert(now);
        }
    }

    /// An earlier sweep has not begun yet: no use in asking again.
    pub fn is_stuck(&self) -> bool {
        self.unbegun.is_some()
    }

    /// No answer to the present sweep can come any more, except from those that hang since an earlier one.
    pub fn is_complete(&self) -> bool {
        let waits = |asked: Option<Instant>| asked.is_some() && asked >= self.asked;
        self.trouble.is_some() || (!waits(self.unbegun) && self.cards.values().all(|card| !waits(card.asked)))
    }

    pub fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Roll(roll) => self.begin(roll),
            Answer::Card { card, reading } => self.know(card, reading),
        }
    }

    /// The worker ended: what it has not answered it will not answer.
    pub fn fail(&mut self, trouble: Finding) {
        self.trouble = Some(trouble);
        self.unbegun = None;
        self.cards.values_mut().for_each(|card| card.asked = None);
    }

    fn begin(&mut self, roll: Roll) {
        self.unbegun = None;
        let asked = self.asked;
        for (id, card) in std::mem::take(&mut self.cards) {
            if roll.cards.contains(&id) {
                self.cards.insert(id, card);
            } else if let Some(reading) = card.reading.filter(|reading| reading.lost) {
                self.lost.extend(reading.readings);
            }
        }
        for id in &roll.cards {
            self.cards.entry(*id).or_insert(Known { reading: None, asked });
        }
        self.roll = Some(roll);
    }

    fn know(&mut self, id: CardId, mut reading: CardReading) {
        let is_new = |old: &Reading| reading.readings.iter().all(|new| new.device.id != old.device.id);
        let known = self.cards.entry(id).or_default();
        known.asked = None;
        let old = known.reading.take().unwrap_or_default();
        self.lost.retain(is_new);
        if old.lost {
            // The listing closed the gap: this position is another card's now.
            self.lost.extend(old.readings.iter().filter(|old| is_new(old)).cloned());
        }
        for new in &mut reading.readings {
            let before = old.readings.iter().find(|old| old.device.id == new.device.id);
            new.health.last_xid = new.health.last_xid.or(before.and_then(|before| before.health.last_xid));
        }
        known.reading = Some(reading);
    }

    /// Everything as it is known now. Cards that are silent for longer than `patience` keep their figures and are
    /// unusable.
    pub fn inventory(&self, now: Timestamp, patience: Duration) -> Inventory {
        let is_silent = |asked: Option<Instant>| asked.is_some_and(|asked| asked.elapsed() >= patience);
        let mut devices: Vec<Reading> = Vec::new();
        let mut findings = self.roll.iter().flat_map(|roll| roll.findings.clone()).collect::<Vec<_>>();
        for (id, card) in &self.cards {
            let mut readings = match &card.reading {
                Some(reading) => {
                    findings.extend(reading.findings.iter().cloned());
                    reading.readings.clone()
                }
                // Its first answer is still due.
                None if !is_silent(card.asked) && self.trouble.is_none() => continue,
                None => vec![Reading::unusable(nameless(*id), fault::unnamed(), now)],
            };
            if let Some(trouble) = &self.trouble {
                readings.iter_mut().for_each(|reading| reading.state = unusable(trouble.clone()));
            } else if let Some(asked) = card.asked.filter(|asked| is_silent(Some(*asked))) {
                for reading in &mut readings {
                    let age = match card.reading {
                        Some(_) => now.duration_since(reading.taken_at).unsigned_abs(),
                        None => asked.elapsed(),
                    };
                    reading.state = unusable(fault::not_answering(age, Some(id.vendor)));
                }
            }
            devices.extend(readings);
        }
        devices.extend(self.lost.iter().cloned());
        findings.extend(self.trouble.clone());
        if devices.is_empty() {
            return self.stand_in(now, findings, patience);
        }
        // While positions change after a loss, two may tell of one device.
        let newest = |id: &domain::DeviceId| devices.iter().filter(|d| d.device.id == *id).map(|d| d.taken_at).max();
        let mut kept: Vec<Reading> = Vec::new();
        for reading in &devices {
            let is_kept = kept.iter().any(|other| other.device.id == reading.device.id);
            if !is_kept && newest(&reading.device.id) == Some(reading.taken_at) {
                kept.push(reading.clone());
            }
        }
        // Cards that nobody may look into do not keep tasks from the CPU.
        if kept.iter().all(|reading| reading.device.kind == DeviceKind::Intel && !reading.is_usable()) {
            kept.extend(CpuBackend::new(Vec::new()).sweep(now).devices);
        }
        for (position, reading) in kept.iter_mut().enumerate() {
            reading.device.index = position as u32;
        }
        let detection_error = self.roll.as_ref().and_then(|roll| roll.detection_error.clone());
        Inventory { taken_at: now, devices: kept, findings, detection_error }
    }

    /// Whether all cards that say so are kept ready while nobody uses them; `None`: none says.
    pub fn is_persistent(&self) -> Option<bool> {
        let said = self.cards.values().filter_map(|card| card.reading.as_ref()?.persistent);
        said.reduce(|all, one| all && one)
    }

    /// The CPU, which must not be mistaken for the answer as long as the drivers have given none.
    fn stand_in(&self, now: Timestamp, mut findings: Vec<Finding>, patience: Duration) -> Inventory {
        let silent = self.unbegun.filter(|asked| asked.elapsed() >= patience).map(|asked| asked.elapsed());
        let obstacle = self.trouble.clone().or_else(|| {
            let finding = fault::not_answering(silent?, None);
            findings.push(finding.clone());
            Some(finding)
        });
        let mut inventory = CpuBackend::new(findings).sweep(now);
        inventory.detection_error = match &obstacle {
            Some(finding) => Some(finding.zh.clone()),
            None => self.roll.as_ref().and_then(|roll| roll.detection_error.clone()),
        };
        if let Some(finding) = obstacle {
            inventory.devices[0].state = unusable(finding);
        }
        inventory
    }
}

fn unusable(Finding { code, zh, en }: Finding) -> DeviceState {
    DeviceState::Unusable { code, zh, en }
}

/// A card that has never told who it is; nothing is ever placed on it.
pub(crate) fn nameless(CardId { vendor, number }: CardId) -> Device {
    let (kind, name) = match vendor {
        Vendor::Nvidia => (DeviceKind::Nvidia, "NVIDIA"),
        Vendor::Amd => (DeviceKind::Amd, "AMD"),
        Vendor::Intel => (DeviceKind::Intel, "Intel"),
    };
    Device::new(format!("UNREADABLE-{name}-{number}"), kind, number, format!("{name} GPU {number}"))
}
