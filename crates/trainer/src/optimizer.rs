//! AdamW (Loshchilov & Hutter 2019) over an adapter's parameters, gradient clipping and the learning-rate schedule.

use crate::adapter::Adapter;
use crate::{Schedule, TrainConfig};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Running means of the gradients and of their squares, A and B of each module.
#[derive(Clone, Debug)]
pub struct AdamW {
    pub means: Vec<[Vec<f32>; 2]>,
    pub squares: Vec<[Vec<f32>; 2]>,
}

impl AdamW {
    pub fn new(adapter: &Adapter) -> Self {
        let zeros = || adapter.parameters.iter().map(|pair| pair.each_ref().map(|p| vec![0.0; p.len()])).collect();
        Self { means: zeros(), squares: zeros() }
    }

    /// Makes step number `step` (from 1).
    pub fn step(&mut self, adapter: &mut Adapter, gradients: &[[Vec<f32>; 2]], step: u64, rate: f64, decay: f64) {
        let (correct1, correct2) = (1.0 - BETA1.powf(step as f64), 1.0 - BETA2.powf(step as f64));
        let (keep, step_size) = ((1.0 - rate * decay) as f32, (rate / correct1) as f32);
        let root = correct2.sqrt() as f32;
        let (beta1, beta2, epsilon) = (BETA1 as f32, BETA2 as f32, EPSILON as f32);
        let (rest1, rest2) = ((1.0 - BETA1) as f32, (1.0 - BETA2) as f32);
        let state = self.means.iter_mut().flatten().zip(self.squares.iter_mut().flatten());
        let parameters = adapter.parameters.iter_mut().flatten().zip(gradients.iter().flatten());
        for ((parameters, gradients), (means, squares)) in parameters.zip(state) {
            for (((p, g), m), v) in parameters.iter_mut().zip(gradients).zip(means).zip(squares) {
                *m = beta1 * *m + rest1 * g;
                *v = beta2 * *v + rest2 * g * g;
                *p = *p * keep - step_size * *m / (v.sqrt() / root + epsilon);
            }
        }
    }
}

/// Shrinks the gradients so that their common L2 norm is at most `max` (0: never); gives the norm before.
pub fn clip(gradients: &mut [[Vec<f32>; 2]], max: f64) -> f64 {
    let norm = gradients.iter().flatten().flatten().map(|g| (*g as f64).powi(2)).sum::<f64>().sqrt();
    if max > 0.0 && norm > max {
        let factor = (max / norm) as f32;
        gradients.iter_mut().flatten().flatten().for_each(|g| *g *= factor);
    }
    norm
}

/// Learning rate of the step after `done` of `total`.
pub fn learning_rate(config: &TrainConfig, done: u64, total: u64) -> f64 {
    let warmup = (config.warmup_ratio * total as f64).ceil() as u64;
    if done < warmup {
        return config.learning_rate * (done + 1) as f64 / warmup as f64;
    }
    let progress = (done - warmup) as f64 / (total - warmup).max(1) as f64;
    config.learning_rate
        * match config.schedule {
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Linear => 1.0 - progress,
            Schedule::Constant => 1.0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_rises_then_falls() {
        let rates = |schedule| {
            let config = TrainConfig { learning_rate: 1.0, warmup_ratio: 0.2, schedule, ..Default::default() };
            [0, 1, 2, 6, 9].map(|done| (learning_rate(&config, done, 10) * 1e4).round() / 1e4)
        };
        assert_eq!(rates(Schedule::Linear), [0.5, 1.0, 1.0, 0.5, 0.125]);
        assert_eq!(rates(Schedule::Cosine), [0.5, 1.0, 1.0, 0.5, 0.0381]);
        assert_eq!(rates(Schedule::Constant), [0.5, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let mut gradients = vec![[vec![3.0], vec![0.0, 4.0]]];
        assert_eq!(clip(&mut gradients, 0.0), 5.0);
        assert_eq!(clip(&mut gradients, 10.0), 5.0);
        assert_eq!(gradients, [[vec![3.0], vec![0.0, 4.0]]]);
        assert_eq!(clip(&mut gradients, 1.0), 5.0);
        assert_eq!(gradients, [[vec![0.6], vec![0.0, 0.8]]]);
    }
}
