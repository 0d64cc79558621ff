use jiff::Timestamp;

use crate::Options;
use crate::card::{Card, CardReading};

#[derive(Clone)]
pub(crate) struct AmdCard {}

pub(crate) fn cards(_options: &Options) -> Vec<AmdCard> {
    Vec::new()
}

impl Card for AmdCard {
    fn read(&mut self, _options: &Options, _now: Timestamp) -> CardReading {
        CardReading::default()
    }
}
