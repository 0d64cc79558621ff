//! Loss and gradients against PyTorch + PEFT, on the models that reference/make_fixtures.py made.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;
use crate::cpu::Cpu;
use crate::examples::Example;
use crate::files;

/// Largest relative error allowed: of the loss, and of each gradient in the L2 norm.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Sequence {
    ids: Vec<u32>,
    answer: Vec<bool>,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn batch(dir: &Path) -> Batch {
    let sequences: Vec<Sequence> = files::read_json(&dir.join("batch.json"), ["", ""]).unwrap();
    let examples: Vec<Example> = sequences.into_iter().map(|s| Example { ids: s.ids, answer: s.answer }).collect();
    Batch::new(&examples)
}

fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| *a as f64 - *b as f64));
    difference / norm(&mut expected.iter().map(|v| *v as f64))
}

/// Compares with all activations kept, and with every layer recomputed.
fn agrees_with_pytorch<E: Engine>(engine: &E, name: &str) {
    let dir = fixture(name);
    let config = ModelConfig::read(&dir).unwrap();
    let adapter = Adapter::read(&dir.join("adapter"), &config).unwrap();
    assert_eq!(adapter.modules.len(), 7 * config.layers);
    let mut model = Model::load(engine, config, &Weights::of_model(&dir).unwrap(), &adapter).unwrap();
    let (lora, batch) = (adapter.upload(engine), batch(&dir));
    let expected_loss = Weights::open(&[dir.join("expected.safetensors")]).unwrap().f32("loss", &[1]).unwrap()[0];
    let expected = adapter.read_numbers(&dir.join("expected.safetensors")).unwrap();
    let targets = batch.targets.len() as f64;

    let loss = engine.run(|| model.loss(engine, &lora, &batch)) / targets;
    assert!((loss / expected_loss as f64 - 1.0).abs() < TOLERANCE, "{name}: loss {loss}, expected {expected_loss}");
    let mut worst: f64 = 0.0;
    for budget in [0, usize::MAX] {
        model.budget = budget;
        let (sum, gradients) = engine.run(|| model.gradients(engine, &lora, &batch, 1.0 / targets as f32));
        assert_eq!(sum / targets, loss, "{name}");
        for ((module, gradients), expected) in adapter.modules.iter().zip(gradients).zip(&expected) {
            let gradients = gradients.unwrap_or_else(|| panic!("{name}: {module:?} got no gradient"));
            for (gradient, expected) in gradients.iter().zip(expected) {
                let gradient = engine.numbers(gradient);
                assert!(gradient.iter().any(|g| *g != 0.0), "{name}: the gradient of {module:?} is zero");
                let error = relative_error(&gradient, expected);
                assert!(error < TOLERANCE, "{name}: the gradient of {module:?} is off by {error:e}");
                worst = worst.max(error);
            }
        }
    }
    println!("{name}: loss off by {:e}, gradients by up to {worst:e}", (loss / expected_loss as f64 - 1.0).abs());
}

#[test]
fn qwen2_agrees_with_pytorch() {
    agrees_with_pytorch(&Cpu::new(Some(2)), "qwen2");
}

#[test]
fn qwen3_agrees_with_pytorch() {
    agrees_with_pytorch(&Cpu::new(Some(2)), "qwen3");
}

#[test]
fn llama_agrees_with_pytorch() {
    agrees_with_pytorch(&Cpu::new(Some(2)), "llama");
}

/// The operations that a GPU runs, on burn's CPU back end.
#[cfg(feature = "burn")]
#[test]
fn burn_agrees_with_pytorch() {
    for name in ["qwen2", "qwen3", "llama"] {
        agrees_with_pytorch(&crate::burn_engine::BurnEngine::flex(), name);
    }
}
