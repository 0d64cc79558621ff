//! Finds the cards of all vendors.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domain::Inventory;
use jiff::Timestamp;

use crate::amd::AmdCard;
use crate::backend::nvml_disabled;
use crate::card::{Answer, Card, CardId, Roll, Vendor};
use crate::drm::DrmCard;
use crate::intel::IntelCard;
use crate::nvml::Driver;
use crate::picture::Picture;
use crate::{Backend, Options, amd, intel};

#[derive(Default)]
pub(crate) struct Roster {
    nvidia: Driver,
    /// Kernel folders of the cards that need no library.
    amd: Vec<DrmCard>,
    intel: Vec<DrmCard>,
}

impl Roster {
    /// Which cards there are now. Drivers can be installed, loaded and repaired at any time.
    pub fn call(&mut self, options: &Options) -> Roll {
        self.amd = amd::cards(options);
        self.intel = intel::cards(options);
        let others = [(Vendor::Amd, self.amd.len()), (Vendor::Intel, self.intel.len())];
        let others = others.into_iter().flat_map(|(vendor, count)| numbered(vendor, count as u32));

        let mut roll = Roll::default();
        if options.disable_nvml {
            roll.findings.push(nvml_disabled());
        } else {
            self.nvidia.call(options, &mut roll);
        }
        let nvidia_is_absent = roll.cards.is_empty() && roll.detection_error.is_none();
        roll.cards.extend(others);
        if nvidia_is_absent && !roll.cards.is_empty() && !options.disable_nvml {
            // Somebody with another vendor's card is not missing NVIDIA's driver.
            roll.findings.clear();
        }
        roll
    }

    /// `None`: it is gone since the call.
    pub fn card(&self, id: CardId) -> Option<Box<dyn Card>> {
        match id.vendor {
            Vendor::Nvidia => self.nvidia.card(id.number),
            Vendor::Amd => Some(Box::new(AmdCard::new(self.amd.get(id.number as usize)?.clone()))),
            Vendor::Intel => Some(Box::new(IntelCard::new(self.intel.get(id.number as usize)?.clone()))),
        }
    }

    /// All cards of NVIDIA must be dropped before.
    pub fn unload_nvml(&mut self) {
        self.nvidia.unload();
    }
}

pub(crate) fn numbered(vendor: Vendor, count: u32) -> impl Iterator<Item = CardId> {
    (0..count).map(move |number| CardId { vendor, number })
}

/// All real cards, read one after the other on the caller's thread, which hangs if a driver does.
pub(crate) struct RealBackend {
    options: Options,
    roster: Roster,
    cards: BTreeMap<CardId, Box<dyn Card>>,
    picture: Picture,
}

impl RealBackend {
    pub fn new(options: Options) -> RealBackend {
        RealBackend { options, roster: Roster::default(), cards: BTreeMap::new(), picture: Picture::default() }
    }
}

impl Backend for RealBackend {
    fn sweep(&mut self, now: Timestamp) -> Inventory {
        self.picture.ask(Instant::now());
        let roll = self.roster.call(&self.options);
        let ids = roll.cards.clone();
        self.cards.retain(|id, _| ids.contains(id));
        self.picture.take(Answer::Roll(roll));
        for id in ids {
            if !self.cards.contains_key(&id)
                && let Some(card) = self.roster.card(id)
            {
                self.cards.insert(id, card);
            }
            let Some(card) = self.cards.get_mut(&id) else { continue };
            let reading = card.read(&self.options, now);
            self.picture.take(Answer::Card { card: id, reading });
        }
        self.picture.inventory(now, Duration::MAX)
    }
}
