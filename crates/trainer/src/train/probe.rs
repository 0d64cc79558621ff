//! What the longest micro-batch takes, found out before the first step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::{OnEvent, Run};
use crate::decoder::Batch;
use crate::engine::Engine;
use crate::examples::Example;
use crate::rng::Rng;
use crate::{Event, TrainConfig, memory};

/// A probe may cost this share of the tokens that are still to be trained on.
const MOST: f64 = 0.02;
/// The first computation warms up, the second is timed.
const TIMES: usize = 2;

/// Which examples come together when.
pub struct Plan<'a> {
    config: &'a TrainConfig,
    lengths: Vec<usize>,
    pub total_steps: u64,
}

/// What is still to be trained on.
pub struct ToCome {
    /// The examples of the micro-batch with the most tokens.
    pub longest: Vec<usize>,
    pub tokens: u64,
    pub steps: u64,
}

/// Order of the examples in an epoch.
pub fn order(seed: u64, epoch: u32, examples: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..examples).collect();
    Rng::new(seed, 1000 + epoch as u64).shuffle(&mut order);
    order
}

impl<'a> Plan<'a> {
    pub fn new(config: &'a TrainConfig, examples: &[Example]) -> Self {
        let per_step = config.batch_size * config.gradient_accumulation_steps;
        let all = examples.len().div_ceil(per_step) as u64 * config.epochs as u64;
        let total_steps = config.max_steps.map_or(all, |max| all.min(max));
        Self { config, lengths: examples.iter().map(|example| example.ids.len()).collect(), total_steps }
    }

    pub fn tokens(&self, examples: &[usize]) -> usize {
        examples.iter().map(|&i| self.lengths[i]).sum()
    }

    /// From `step`, which begins at `position` of `epoch`.
    pub fn to_come(&self, mut step: u64, mut epoch: u32, mut position: usize) -> ToCome {
        let TrainConfig { batch_size, gradient_accumulation_steps, seed, .. } = *self.config;
        let mut to_come = ToCome { longest: Vec::new(), tokens: 0, steps: self.total_steps.saturating_sub(step) };
        let mut most = 0;
        while step < self.total_steps {
            let order = order(seed, epoch, self.lengths.len());
            let steps = order[position..].chunks(batch_size * gradient_accumulation_steps);
            for examples in steps.take((self.total_steps - step) as usize) {
                for batch in examples.chunks(batch_size) {
                    let tokens = self.tokens(batch);
                    to_come.tokens += tokens as u64;
                    if tokens > most {
                        most = tokens;
                        to_come.longest = batch.to_vec();
                    }
                }
                step += 1;
            }
            (epoch, position) = (epoch + 1, 0);
        }
        to_come
    }
}

impl<E: Engine + Send> Run<'_, E> {
    /// Computes loss and gradients of the longest micro-batch twice, holding what a step holds, and throws them away:
    /// parameters, optimizer, order and random numbers stay as they are. Not where it would cost more than [`MOST`].
    pub(super) fn probe(&mut self, stop: &AtomicBool, on_event: &mut OnEvent) {
        let plan = Plan::new(self.config, &self.examples);
        let ToCome { longest, tokens, steps } = plan.to_come(self.state.step, self.state.epoch, self.state.position);
        let longest_tokens = plan.tokens(&longest);
        let costs = (TIMES * longest_tokens) as f64;
        if !self.config.probe || steps == 0 || costs > MOST * tokens as f64 {
            return;
        }
        let lora = self.adapter.upload(&*self.engine);
        let mut seconds = 0.0;
        let mut sum = Vec::new();
        for _ in 0..TIMES {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let start = Instant::now();
            let batch = Batch::new(longest.iter().map(|&i| &self.examples[i]));
            let (_, gradients) = self.micro_batch(&lora, &batch, batch.targets.len());
            seconds = start.elapsed().as_secs_f64();
            self.device_bytes();
            // As accumulation does, the sum so far is kept beside the next part.
            if self.config.gradient_accumulation_steps > 1 {
                sum = gradients;
            }
        }
        drop(sum);
        // Zeros that were never written to take no main memory yet.
        let unwritten = match self.state.step {
            0 if self.device_peak.is_none() => 2 * 4 * self.adapter.count(),
            _ => 0,
        };
        on_event(&Event::Probe {
            peak_bytes: self.peak_bytes().map(|bytes| bytes + unwritten),
            allocated_bytes: None,
            seconds_per_step: seconds / longest_tokens as f64 * tokens as f64 / steps as f64,
            tokens: longest_tokens,
        });
    }

    /// Device memory held now; remembers the most.
    pub(super) fn device_bytes(&mut self) -> Option<u64> {
        let now = self.engine.device_bytes();
        self.device_peak = self.device_peak.max(now);
        now
    }

    fn peak_bytes(&self) -> Option<u64> {
        self.device_peak.or_else(memory::peak)
    }

    pub(super) fn report_memory(&mut self, on_event: &mut OnEvent) {
        self.device_bytes();
        // The pools' own count of what was handed out is of one moment, so it has no peak.
        on_event(&Event::Memory { peak_bytes: self.peak_bytes(), allocated_bytes: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_micro_batch_is_found_among_those_to_come() {
        let example = |length: usize| Example { ids: vec![1; length], answer: vec![true; length] };
        let examples: Vec<Example> = (1..=10).map(example).collect();
        let config = TrainConfig { epochs: 3, batch_size: 2, gradient_accumulation_steps: 2, ..Default::default() };
        let plan = Plan::new(&config, &examples);
        assert_eq!(plan.total_steps, 9);

        // By hand, over every micro-batch of the epochs.
        let batches = |epoch: u32, from: usize| -> Vec<usize> {
            let order = order(config.seed, epoch, 10);
            order[from..].chunks(4).flat_map(|step| step.chunks(2)).map(|batch| plan.tokens(batch)).collect()
        };
        for (step, epoch, position) in [(0, 0, 0), (1, 0, 4), (3, 1, 0), (8, 2, 8), (9, 3, 0)] {
            let all: Vec<usize> = (epoch..3).flat_map(|e| batches(e, if e == epoch { position } else { 0 })).collect();
            let to_come = plan.to_come(step, epoch, position);
            assert_eq!(to_come.tokens as usize, all.iter().sum::<usize>(), "from step {step}");
            assert_eq!(plan.tokens(&to_come.longest), all.into_iter().max().unwrap_or(0), "from step {step}");
        }
        let cut = TrainConfig { max_steps: Some(1), ..config.clone() };
        let first: usize = plan.tokens(&order(config.seed, 0, 10)[..4]);
        assert_eq!(Plan::new(&cut, &examples).to_come(0, 0, 0).tokens as usize, first);
    }
}
