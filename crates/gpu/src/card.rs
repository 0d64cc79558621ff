//! What one sweep is made of: cards that are read independently of each other, and what they answer.

use domain::{Finding, Reading};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Options;

/// A physical card in this machine. The order is that in which devices are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct CardId {
    pub vendor: Vendor,
    /// Position in the vendor's listing.
    pub number: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Vendor {
    Nvidia,
    Amd,
    Intel,
}

/// Reads one card. A call may hang as long as the driver does; it touches nothing that another card needs.
pub(crate) trait Card: Send {
    fn read(&mut self, options: &Options, now: Timestamp) -> CardReading;
}

/// One device, or a MIG card's instances.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CardReading {
    pub readings: Vec<Reading>,
    /// What people should know although the card can be used.
    pub findings: Vec<Finding>,
    /// The driver gave the card up; only loading the library anew can find it again.
    pub lost: bool,
    /// The driver keeps the card ready while nobody uses it. `None`: it does not say.
    #[serde(default)]
    pub persistent: Option<bool>,
}

/// Which cards there are, and what keeps others from being seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Roll {
    pub cards: Vec<CardId>,
    pub findings: Vec<Finding>,
    pub detection_error: Option<String>,
}

/// What the studio writes to the worker process, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// From now on; comes before the first sweep.
    Options(Box<Options>),
    Sweep,
}

/// What the worker process writes to the studio, a line each, as soon as it is known.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The first answer to a sweep. A card that still hangs in an earlier one is in it, but not asked again.
    Roll(Roll),
    Card {
        card: CardId,
        reading: CardReading,
    },
}
