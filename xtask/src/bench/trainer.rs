use std::env;

use serde_json::Value;

use super::Figure;
use crate::run;

const TOKENS: &str = "512";
const STEPS: &str = "4";

/// The built-in trainer beside PyTorch + PEFT with gradient checkpointing, on the same model folder and CPU.
pub fn measure() -> Vec<Figure> {
    let model = env::temp_dir().join("sage-throughput-qwen2.5-0.5b");
    let model = model.display().to_string();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let common = ["--tokens", TOKENS, "--steps", STEPS, "--threads", &threads];
    let ours = ["run", "--release", "--quiet", "-p", "trainer", "--example", "throughput", "--", "--model", &model];
    let Some(ours) = measured(run::in_root("cargo", &[&ours[..], &common].concat())) else { return Vec::new() };
    let mut figures = vec![
        Figure::new("built-in trainer, Qwen2.5-0.5B shape, 512 tokens", speed(&ours), "tokens/s").note(engine(&ours)),
        Figure::new("built-in trainer, peak memory", memory(&ours), "GiB"),
    ];
    let python = env::var("SAGE_TORCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_torch = run::in_root(&python, &["-c", "import torch, peft, transformers"]).output();
    if !has_torch.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "{python} has no torch, peft and transformers; set SAGE_TORCH_PYTHON to one that has, for the comparison"
        );
        return figures;
    }
    for mode in ["f32", "bf16"] {
        let script = ["crates/trainer/reference/throughput.py", &model, "--mode", mode];
        let Some(theirs) = measured(run::in_root(&python, &[&script[..], &common].concat())) else { continue };
        let (speed_ratio, memory_ratio) = (speed(&ours) / speed(&theirs), memory(&ours) / memory(&theirs));
        let speed_ratio = Figure::new(format!("speed against PyTorch + PEFT, {mode}"), speed_ratio, "×");
        let memory_ratio = Figure::new(format!("peak memory against PyTorch + PEFT, {mode}"), memory_ratio, "×");
        let note = format!("{}: {:.1} tokens/s, {:.2} GiB", engine(&theirs), speed(&theirs), memory(&theirs));
        // The promise is about full precision, which both then compute in.
        let promised = mode == "f32";
        figures.push(if promised { speed_ratio.at_least(0.7) } else { speed_ratio }.note(note));
        figures.push(if promised { memory_ratio.at_most(0.55) } else { memory_ratio });
    }
    figures
}

/// The JSON object that a measurement prints last.
fn measured(command: std::process::Command) -> Option<Value> {
    let (succeeded, said) = run::watched(command);
    let line = said.lines().rev().find(|line| line.trim_start().starts_with('{'));
    let value = line.and_then(|line| serde_json::from_str(line).ok());
    if !succeeded || value.is_none() {
        eprintln!("the measurement failed");
        return None;
    }
    value
}

fn speed(figures: &Value) -> f64 {
    figures["tokens_per_second"].as_f64().unwrap_or(f64::NAN)
}

fn memory(figures: &Value) -> f64 {
    figures["peak_rss_bytes"].as_f64().unwrap_or(f64::NAN) / (1u64 << 30) as f64
}

fn engine(figures: &Value) -> String {
    figures["engine"].as_str().unwrap_or("built-in").to_owned()
}
