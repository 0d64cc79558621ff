use jiff::Timestamp;

use crate::Options;
use crate::card::{Card, CardReading};

#[derive(Clone)]
pub(crate) struct IntelCard {}

pub(crate) fn cards(_options: &Options) -> Vec<IntelCard> {
    Vec::new()
}

impl Card for IntelCard {
    fn read(&mut self, _options: &Options, _now: Timestamp) -> CardReading {
        CardReading::default()
    }
}
