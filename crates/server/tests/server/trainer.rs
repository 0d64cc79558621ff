//! Stands in for `sage train`: reads the recipe, reports, leaves an adapter. The queue and the files are real.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use serde_json::{Value, json};

pub fn train() -> ExitCode {
    let mut arguments = std::env::args().skip(2);
    let (mut recipe, mut output) = (None, None);
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        match name.as_str() {
            "--recipe" => recipe = Some(value),
            "--output" => output = Some(PathBuf::from(value)),
            other => panic!("unknown argument {other}"),
        }
    }
    let recipe: Value = serde_json::from_str(&fs::read_to_string(recipe.unwrap()).unwrap()).unwrap();
    let output = output.unwrap();
    let hold = PathBuf::from(recipe["model_name"].as_str().unwrap()).join("hold");
    let step = |step: u64, loss: f64| {
        json!({"event": "step", "step": step, "epoch": step as f64 * 0.75, "loss": loss, "learning_rate": 1e-5,
               "grad_norm": 0.5, "tokens_per_second": 100.0, "memory_bytes": 1 << 20})
    };
    let start = json!({"event": "start", "total_steps": 4, "total_epochs": 3});
    println!("训练开始");
    report(&output, &[start, step(1, 2.5)]);
    // The folder may be gone with its test.
    while hold.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    report(&output, &[step(2, 2.0), step(3, 1.5), json!({"event": "eval", "step": 3, "loss": 1.75}), step(4, 1.0)]);
    fs::write(output.join("adapter_config.json"), r#"{"peft_type": "LORA"}"#).unwrap();
    fs::write(output.join("adapter_model.safetensors"), b"adapter").unwrap();
    println!("训练完成");
    ExitCode::SUCCESS
}

fn report(output: &Path, events: &[Value]) {
    let mut metrics = OpenOptions::new().create(true).append(true).open(output.join("metrics.jsonl")).unwrap();
    for event in events {
        writeln!(metrics, "{event}").unwrap();
    }
}
