//! Measures training speed and memory on a random model of a given shape, and prints them as JSON.
//!
//! Usage: throughput [--shape qwen2.5-0.5b|tiny] [--tokens 512] [--steps 4] [--threads 2] [--model DIR]
//!
//! DIR (default: a folder in the temporary directory) is made when it is not there; reference/throughput.py measures
//! PyTorch on the same folder. The first step, which warms caches up, is left out of the mean.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;
use trainer::{Conversation, Event, Role, TinyConfig, TrainConfig, Turn, make_tiny, train};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A model's measures.
struct Shape {
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    vocab: usize,
}

fn main() -> Result<()> {
    let mut options: HashMap<String, String> = HashMap::new();
    let mut args = std::env::args().skip(1);
    while let Some(key) = args.next() {
        let value = args.next().ok_or_else(|| format!("{key} needs a value"))?;
        options.insert(key.trim_start_matches("--").into(), value);
    }
    let name = options.get("shape").map_or("qwen2.5-0.5b", String::as_str);
    let shape = match name {
        "qwen2.5-0.5b" => Shape { hidden: 896, intermediate: 4864, layers: 24, heads: 14, kv_heads: 2, vocab: 151_936 },
        "tiny" => Shape { hidden: 256, intermediate: 704, layers: 4, heads: 8, kv_heads: 2, vocab: 4096 },
        other => return Err(format!("unknown shape {other}; use qwen2.5-0.5b or tiny").into()),
    };
    let number = |key: &str, default: usize| options.get(key).map_or(Ok(default), |value| value.parse());
    let (tokens, steps, threads) = (number("tokens", 512)?, number("steps", 4)?, number("threads", 2)?);
    if steps < 2 {
        return Err("--steps has to be 2 or more: the first is not counted".into());
    }
    let default = std::env::temp_dir().join(format!("sage-throughput-{name}"));
    let model = options.get("model").map_or(default, PathBuf::from);
    if !model.join("model.safetensors").exists() {
        write_model(&model, &shape)?;
    }

    let output_dir = model.join("output");
    let config = TrainConfig {
        model_dir: model.clone(),
        output_dir: output_dir.clone(),
        max_steps: Some(steps as u64),
        epochs: steps as u32,
        gradient_accumulation_steps: 1,
        max_length: tokens,
        threads: Some(threads),
        checkpoint_every_steps: Some(u64::MAX),
        ..Default::default()
    };
    let turn = |role, content: String| Turn { role, content };
    let answer = (0..tokens).map(|i| format!("{i} ")).collect();
    let data = [Conversation { turns: vec![turn(Role::User, "Count.".into()), turn(Role::Assistant, answer)] }];
    let (mut seconds, mut processor, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    train(&config, &data, &AtomicBool::new(false), &mut |event| {
        if let Event::Step { tokens_per_second, loss, .. } = event {
            seconds.push(tokens as f64 / tokens_per_second);
            processor.push(processor_seconds().unwrap_or(f64::NAN));
            losses.push(*loss);
        }
    })?;
    fs::remove_dir_all(output_dir)?;
    let steady = &seconds[1..];
    let mean = steady.iter().sum::<f64>() / steady.len() as f64;
    let result = json!({
        "engine": "built-in",
        "shape": name,
        "model": model,
        "tokens": tokens,
        "steps": steps,
        "threads": threads,
        "losses": losses,
        "tokens_per_second": tokens as f64 / mean,
        "seconds_per_step": mean,
        "fastest_step_seconds": seconds.iter().copied().fold(f64::INFINITY, f64::min),
        "cpu_seconds_per_step": (processor[steps - 1] - processor[0]) / (steps - 1) as f64,
        "peak_rss_bytes": peak_rss_bytes()?,
    });
    println!("{result}");
    Ok(())
}

/// A folder with random bf16 weights and a tokenizer that uses the first part of the vocabulary.
fn write_model(dir: &Path, shape: &Shape) -> Result<()> {
    let corpus = ["Count. user assistant system".to_string()];
    make_tiny(dir, &corpus, &TinyConfig { hidden: 8, intermediate: 8, layers: 1, ..Default::default() })?;
    let path = dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    for (key, value) in [
        ("hidden_size", shape.hidden),
        ("intermediate_size", shape.intermediate),
        ("num_hidden_layers", shape.layers),
        ("num_attention_heads", shape.heads),
        ("num_key_value_heads", shape.kv_heads),
        ("vocab_size", shape.vocab),
    ] {
        config[key] = json!(value);
    }
    config["rope_theta"] = json!(1e6);
    config["torch_dtype"] = json!("bfloat16");
    fs::write(&path, serde_json::to_vec_pretty(&config)?)?;

    let (hidden, kv) = (shape.hidden, shape.hidden / shape.heads * shape.kv_heads);
    let mut tensors = vec![("model.embed_tokens.weight".to_string(), vec![shape.vocab, hidden], 0.02)];
    tensors.push(("model.norm.weight".into(), vec![hidden], 0.0));
    for layer in 0..shape.layers {
        let mut add = |name: &str, shape: &[usize], spread| {
            tensors.push((format!("model.layers.{layer}.{name}"), shape.to_vec(), spread));
        };
        for (module, outputs) in [("q_proj", hidden), ("k_proj", kv), ("v_proj", kv)] {
            add(&format!("self_attn.{module}.weight"), &[outputs, hidden], 0.02);
            add(&format!("self_attn.{module}.bias"), &[outputs], 0.02);
        }
        add("self_attn.o_proj.weight", &[hidden, hidden], 0.02);
        add("mlp.gate_proj.weight", &[shape.intermediate, hidden], 0.02);
        add("mlp.up_proj.weight", &[shape.intermediate, hidden], 0.02);
        add("mlp.down_proj.weight", &[hidden, shape.intermediate], 0.02);
        add("input_layernorm.weight", &[hidden], 0.0);
        add("post_attention_layernorm.weight", &[hidden], 0.0);
    }
    // Uniform with the given standard deviation (norms: 1), from a linear congruential generator.
    let mut state = 1u64;
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape, spread)| {
            let number = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let uniform = (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
                let value = if spread == 0.0 { 1.0 } else { uniform * spread * 3f32.sqrt() };
                ((value.to_bits() >> 16) as u16).to_le_bytes()
            };
            let count = shape.iter().product();
            (name, shape, std::iter::repeat_with(number).take(count).flatten().collect())
        })
        .collect();
    let views = data.iter().map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::BF16, shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>>>()?;
    let about = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(views, Some(about), &dir.join("model.safetensors"))?;
    // Memory used to make the model is not memory used to train it.
    drop(data);
    fs::write("/proc/self/clear_refs", "5")?;
    Ok(())
}

/// Processor time of all threads so far.
fn processor_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}

fn peak_rss_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}
