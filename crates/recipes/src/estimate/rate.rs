//! Arithmetic of a step, and how fast devices do it.

use domain::Method;
use serde::Deserialize;

use super::configuration::{Attention, Configuration, Engine};
use super::shape::ModelShape;

/// Share of a card's peak that a training reaches: the published A100 runs lie between 0.38 and 0.62.
const UTILISATION: f64 = 0.5;
/// Seconds per layer and micro-batch that go by before the kernels of a small one are even started: forward, again
/// and backward, with adapters. From the published runs at 256 tokens.
const LAUNCH: f64 = 2e-3;

/// How fast a device trains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Floating-point operations per second that a large training really gets.
    pub flops: f64,
}

#[derive(Deserialize)]
struct Card {
    /// Words that the device's name has, all of them.
    name: String,
    /// Peak of dense bf16 (fp16 where the card has no bf16) with 32-bit accumulation, in TFLOP/s.
    tflops: f64,
    #[serde(default = "yes")]
    bf16: bool,
}

fn yes() -> bool {
    true
}

impl Rate {
    /// From the catalogue of cards, by the device's name as the driver says it.
    pub fn of(device: &str) -> Option<Rate> {
        let device = device.to_ascii_uppercase();
        let words: Vec<&str> = words(&device);
        let card = card(&words)?;
        // An instance has its share of the processors.
        let slices = mig_slices(&words).map_or(1.0, |slices| f64::from(slices) / 7.0);
        Some(Rate { flops: card.tflops * 1e12 * UTILISATION * slices })
    }

    /// Whether a device computes in bf16; one that the catalogue does not have is taken to be newer.
    pub(super) fn has_bf16(device: &str) -> bool {
        card(&words(&device.to_ascii_uppercase())).is_none_or(|card| card.bf16)
    }

    pub(super) fn seconds_per_step(&self, shape: &ModelShape, c: &Configuration) -> f64 {
        let share = |all: f64| all / c.gpus as f64;
        let launches = match c.engine {
            Engine::Torch => share((shape.layers * c.accumulation) as f64 * LAUNCH),
            Engine::Processor => 0.0,
        };
        share(flops_per_step(shape, c) / self.flops) + launches
    }
}

/// Floating-point operations of one optimizer step, on all devices together.
///
/// Two per weight and token forward, two backward for the activations, two more where weights learn, and two to
/// compute activations again; attention likewise over half the square of the length (the mask hides the rest).
pub fn flops_per_step(shape: &ModelShape, c: &Configuration) -> f64 {
    let tokens = (c.tokens() * c.accumulation) as f64;
    let again = if c.checkpointing { 1.0 } else { 0.0 };
    let learning = if c.method == Method::Full { 1.0 } else { 0.0 };
    let linear = 2.0 * shape.linear_parameters() as f64 * (2.0 + learning + again);
    let head = 2.0 * (shape.vocab * shape.hidden) as f64 * (2.0 + learning);
    let scores = 4.0 * (shape.layers * shape.q() * c.length) as f64;
    let scores = match c.attention {
        // Backward makes the scores again.
        Attention::Fused => scores / 2.0 * (1.0 + 2.5 + again),
        Attention::Eager => scores * (1.0 + 2.0 + again),
    };
    tokens * (linear + head + scores)
}

fn words(device: &str) -> Vec<&str> {
    device.split(|c: char| !c.is_ascii_alphanumeric()).collect()
}

/// The more words fit, the more exactly: "RTX 4090 D" before "RTX 4090".
fn card(words: &[&str]) -> Option<&'static Card> {
    let is_it = |card: &&Card| card.name.split(' ').all(|word| words.contains(&word));
    cards().iter().filter(is_it).max_by_key(|card| card.name.len())
}

/// `MIG 3g.40gb` → 3
fn mig_slices(words: &[&str]) -> Option<u32> {
    let after = words.iter().position(|word| *word == "MIG")? + 1;
    words.get(after..)?.iter().find_map(|word| word.strip_suffix('G')?.parse().ok())
}

fn cards() -> &'static [Card] {
    static CARDS: std::sync::LazyLock<Vec<Card>> = std::sync::LazyLock::new(|| {
        serde_json::from_str(include_str!("../../data/cards.json")).expect("the shipped catalogue is sound")
    });
    &CARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_known_by_the_names_that_drivers_give_them() {
        let tflops = |name: &str| Rate::of(name).map(|rate| (rate.flops / UTILISATION / 1e12).round());
        assert_eq!(tflops("NVIDIA A100-SXM4-80GB"), Some(312.0));
        assert_eq!(tflops("NVIDIA H100 80GB HBM3"), Some(989.0));
        assert_eq!(tflops("NVIDIA H100 PCIe"), Some(756.0));
        assert_eq!(tflops("NVIDIA H100 80GB HBM3 MIG 1g.10gb"), Some(141.0));
        assert_eq!(tflops("NVIDIA GeForce RTX 4090"), Some(165.0));
        assert_eq!(tflops("NVIDIA GeForce RTX 3060"), Some(25.0));
        assert_eq!(tflops("NVIDIA GeForce RTX 3060 Ti"), Some(32.0));
        assert_eq!(tflops("NVIDIA RTX A6000"), Some(155.0));
        assert_eq!(tflops("Tesla T4"), Some(65.0));
        assert!(
            Rate::has_bf16("NVIDIA A100-SXM4-80GB") && Rate::has_bf16("NVIDIA Rubin") && !Rate::has_bf16("Tesla T4")
        );
        for unknown in ["Some CPU", "Simulated GPU 0", "", "NVIDIA Voodoo 2"] {
            assert_eq!(tflops(unknown), None, "{unknown}");
        }
    }
}
