//! What earlier runs on this machine teach about later ones.

use domain::{Basis, Breakdown, Estimate, Measurement, Parallelism};

use super::GIB;
use super::configuration::{Configuration, Engine};
use super::shape::{ModelShape, Projection};

/// Runs as trustworthy as the formula: with so many, half of what they say is believed.
const TRUST: f64 = 2.0;

/// Under which a run is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Equal keys, equal needs.
    pub key: String,
    /// The part of the key that says model, method and trainer: in it the formula errs alike.
    pub family: String,
}

impl Key {
    pub fn of(shape: &ModelShape, c: &Configuration) -> Key {
        let ModelShape { family, hidden, intermediate, layers, heads, kv_heads, head_dim, vocab, tied, weight_bytes } =
            shape;
        let model = format!(
            "{family:?} {hidden}/{intermediate}/{layers} {heads}/{kv_heads}x{head_dim} {vocab}{}{}",
            if *tied { " tied" } else { "" },
            if *weight_bytes == 2 { "" } else { " f32" },
        );
        let spread = match (c.gpus, c.parallelism) {
            (1, _) => String::new(),
            (gpus, Parallelism::Ddp) => format!(" ddp{gpus}"),
            (gpus, Parallelism::Fsdp) => format!(" fsdp{gpus}"),
        };
        let precision = if c.full_precision { " f32" } else { "" };
        let checkpointing = if c.checkpointing { " checkpointing" } else { "" };
        let family = format!(
            "{model} | {:?} {:?} {:?} {:?} {:?}{checkpointing}{precision}{spread}",
            c.engine, c.method, c.quantization, c.loss, c.allocator
        );
        let targets: Vec<&str> = c.targets.iter().map(|target: &Projection| target.name()).collect();
        let accumulates = if c.accumulates { " accumulates" } else { "" };
        let key = format!("{family} | {}x{}{accumulates} r{} {}", c.batch, c.length, c.rank, targets.join(","));
        Key { key, family }
    }
}

/// The estimate with what was measured for the same or similar recipes. Seconds count on the same kind of device only.
pub fn refine(
    estimate: Estimate,
    configuration: &Configuration,
    key: &Key,
    device: Option<&str>,
    measurements: &[Measurement],
) -> Estimate {
    let family: Vec<&Measurement> = measurements.iter().filter(|run| run.family == key.family).collect();
    if family.is_empty() {
        return estimate;
    }
    let same: Vec<&Measurement> = family.iter().copied().filter(|run| run.key == key.key).collect();
    let formula_seconds = estimate.seconds_per_step;

    let mut estimate = match peak(&same) {
        Some(measured) => measured_peak(estimate, measured, same.len(), configuration.engine),
        None => corrected_peak(estimate, &family),
    };
    for run in same.iter().filter(|run| run.ran_out_of_memory) {
        let tried = run.peak_bytes.unwrap_or(0);
        estimate.grant_bytes = estimate.grant_bytes.max(tried + tried / 10 + margin(configuration.engine));
    }
    let on_device = |run: &&Measurement| device == Some(run.device.as_str()) && !run.ran_out_of_memory;
    let times: Vec<f64> = same.iter().copied().filter(on_device).filter_map(|run| run.seconds_per_step).collect();
    let ratios: Vec<f64> = family.iter().copied().filter(on_device).filter_map(time_ratio).collect();
    estimate.seconds_per_step = match (median(times), formula_seconds) {
        (Some(measured), _) => Some(measured),
        (None, Some(formula)) => Some(formula * shrunk(&ratios)),
        (None, None) => None,
    };
    estimate
}

/// The estimate once the first steps of this very training were measured: `peak_bytes` of footprint.
pub fn probed(
    estimate: Estimate,
    configuration: &Configuration,
    peak_bytes: u64,
    seconds_per_step: Option<f64>,
) -> Estimate {
    let faster = seconds_per_step.zip(estimate.seconds_per_step).map(|(measured, expected)| measured / expected);
    Estimate {
        basis: Basis::Probe,
        seconds_per_step: seconds_per_step.or(estimate.seconds_per_step),
        total_seconds: estimate.total_seconds.map(|total| total * faster.unwrap_or(1.0)),
        ..measured_peak(estimate, peak_bytes, 1, configuration.engine)
    }
}

/// The largest peak of the runs that ended well.
fn peak(runs: &[&Measurement]) -> Option<u64> {
    runs.iter().filter(|run| !run.ran_out_of_memory).filter_map(|run| run.peak_bytes).max()
}

fn measured_peak(estimate: Estimate, measured: u64, runs: usize, engine: Engine) -> Estimate {
    let scaled = scaled(estimate, measured);
    Estimate {
        footprint_low_bytes: measured - measured / 50,
        footprint_high_bytes: measured + measured / 20,
        grant_bytes: measured + measured / 20 + margin(engine),
        basis: Basis::History { runs: count(runs) },
        ..scaled
    }
}

/// The formula times what it has been wrong by, the less of it the fewer the runs.
fn corrected_peak(estimate: Estimate, family: &[&Measurement]) -> Estimate {
    let ratio = |run: &&&Measurement| Some(run.peak_bytes? as f64 / run.predicted_bytes.max(1) as f64);
    let (failed, ended): (Vec<&Measurement>, Vec<&Measurement>) = family.iter().partition(|run| run.ran_out_of_memory);
    let ratios: Vec<f64> = ended.iter().filter_map(|run| ratio(&run)).collect();
    // What ran out of memory needs more than it had: the formula was wrong by at least so much.
    let least = failed.iter().filter_map(|run| ratio(&run)).fold(0.0, f64::max);
    let factor = shrunk(&ratios).max(least);
    let runs = ratios.len() + failed.len();
    if runs == 0 {
        return estimate;
    }
    let footprint = (estimate.footprint_bytes as f64 * factor) as u64;
    let grow = |bytes: u64| (bytes as f64 * factor) as u64;
    let (low, high) = (grow(estimate.footprint_low_bytes), grow(estimate.footprint_high_bytes));
    let grant = estimate.grant_bytes - estimate.footprint_bytes - estimate.footprint_bytes / 10;
    Estimate {
        footprint_low_bytes: low,
        footprint_high_bytes: high,
        grant_bytes: footprint + footprint / 10 + grant,
        basis: Basis::History { runs: count(runs) },
        ..scaled(estimate, footprint)
    }
}

/// The same parts in the same proportion, for another footprint.
fn scaled(estimate: Estimate, footprint: u64) -> Estimate {
    let factor = footprint as f64 / estimate.footprint_bytes.max(1) as f64;
    let part = |bytes: u64| (bytes as f64 * factor) as u64;
    let old = estimate.breakdown;
    let parts = Breakdown {
        weights: part(old.weights),
        adapters: part(old.adapters),
        gradients: part(old.gradients),
        optimizer: part(old.optimizer),
        activations: part(old.activations),
        logits: part(old.logits),
        workspace: part(old.workspace),
        slack: part(old.slack),
        context: 0,
    };
    // What rounding leaves over belongs to the last.
    let breakdown = Breakdown { context: footprint.saturating_sub(parts.total()), ..parts };
    let allocated_bytes = footprint - breakdown.slack - breakdown.context;
    Estimate { allocated_bytes, footprint_bytes: footprint, breakdown, ..estimate }
}

/// Geometric mean, drawn towards 1 the more the fewer there are.
fn shrunk(ratios: &[f64]) -> f64 {
    let sound: Vec<f64> = ratios.iter().copied().filter(|ratio| ratio.is_finite() && *ratio > 0.0).collect();
    let runs = sound.len() as f64;
    (sound.iter().map(|ratio| ratio.ln()).sum::<f64>() / (runs + TRUST)).exp()
}

fn time_ratio(run: &Measurement) -> Option<f64> {
    Some(run.seconds_per_step? / run.predicted_seconds_per_step?)
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.retain(|seconds| seconds.is_finite() && *seconds > 0.0);
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// What a measured peak may still be exceeded by: batches that come together differently.
fn margin(engine: Engine) -> u64 {
    match engine {
        Engine::Torch => GIB / 2,
        Engine::Processor => GIB / 8,
    }
}

fn count(runs: usize) -> u32 {
    u32::try_from(runs).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::{Rate, estimate};
    use domain::{FineTune, TrainerKind};

    fn shape() -> ModelShape {
        let config = r#"{"model_type":"qwen2","hidden_size":896,"intermediate_size":4864,"num_hidden_layers":24,
            "num_attention_heads":14,"num_key_value_heads":2,"vocab_size":151936,"tie_word_embeddings":true}"#;
        ModelShape::parse(config).unwrap()
    }

    fn recipe(max_length: u32) -> FineTune {
        FineTune { trainer: Some(TrainerKind::Peft), load_in_8bit: false, max_length, ..FineTune::default() }
    }

    struct Case {
        formula: Estimate,
        configuration: Configuration,
        key: Key,
    }

    fn case(length: u32) -> Case {
        let configuration = Configuration::of(&recipe(length));
        let rate = Rate { flops: 1e14 };
        Case {
            formula: estimate(&shape(), &configuration, Some(&rate)),
            key: Key::of(&shape(), &configuration),
            configuration,
        }
    }

    impl Case {
        /// A run of this that took `factor` times the memory and time expected.
        fn run(&self, factor: f64, ran_out_of_memory: bool) -> Measurement {
            Measurement {
                key: self.key.key.clone(),
                family: self.key.family.clone(),
                device: "A".into(),
                peak_bytes: Some((self.formula.footprint_bytes as f64 * factor) as u64),
                predicted_bytes: self.formula.footprint_bytes,
                ran_out_of_memory,
                seconds_per_step: Some(self.formula.seconds_per_step.unwrap() * factor),
                predicted_seconds_per_step: self.formula.seconds_per_step,
            }
        }

        fn refined(&self, device: &str, runs: &[Measurement]) -> Estimate {
            let refined = refine(self.formula.clone(), &self.configuration, &self.key, Some(device), runs);
            assert_eq!(refined.breakdown.total(), refined.footprint_bytes);
            assert!(refined.allocated_bytes <= refined.footprint_bytes);
            assert!(refined.footprint_bytes <= refined.grant_bytes);
            refined
        }
    }

    fn ratio(refined: &Estimate, formula: &Estimate) -> f64 {
        refined.footprint_bytes as f64 / formula.footprint_bytes as f64
    }

    #[test]
    fn the_same_recipe_needs_what_it_needed() {
        let case = case(1024);
        let refined = case.refined("A", &[case.run(1.2, false), case.run(1.25, false)]);
        assert!((ratio(&refined, &case.formula) - 1.25).abs() < 1e-6);
        assert_eq!(refined.basis, Basis::History { runs: 2 });
        assert_eq!(refined.seconds_per_step, case.run(1.25, false).seconds_per_step);
        let elsewhere = case.refined("B", &[case.run(1.25, false)]);
        assert_eq!(elsewhere.seconds_per_step, case.formula.seconds_per_step, "another device, another speed");
    }

    #[test]
    fn similar_recipes_correct_the_formula_the_more_the_more_there_are() {
        let (case, other) = (case(1024), case(2048));
        let runs = vec![other.run(1.3, false); 20];
        let factors: Vec<f64> = [1, 3, 20].map(|count| ratio(&case.refined("A", &runs[..count]), &case.formula)).into();
        assert!(
            1.05 < factors[0] && factors[0] < factors[1] && factors[1] < factors[2] && factors[2] < 1.3,
            "{factors:?}"
        );
        assert!(factors[2] > 1.25);
        let mut strange = other.run(3.0, false);
        strange.family = "another".into();
        assert_eq!(case.refined("A", &[strange]), case.formula);
    }

    #[test]
    fn what_was_too_little_is_not_granted_again() {
        let (case, larger) = (case(1024), case(2048));
        let failed = case.run(1.5, true);
        let refined = case.refined("A", std::slice::from_ref(&failed));
        assert!(refined.grant_bytes > failed.peak_bytes.unwrap());
        assert!(ratio(&refined, &case.formula) >= 1.49);
        // A larger one of the same family learns from it too.
        assert!(ratio(&larger.refined("A", &[failed]), &larger.formula) >= 1.49);
    }
}
