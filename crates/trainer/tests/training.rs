//! Training from outside: it learns, it goes on after an interruption as if there had been none, it writes PEFT's layout.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{corpus, facts, folder, train, turn};
use safetensors::SafeTensors;
use trainer::{Event, GenerateConfig, LoraConfig, Role, Schedule, TinyConfig, TrainConfig, generate, make_tiny};

/// A model small enough that a step takes milliseconds.
fn tiny(dir: &Path) {
    let options = TinyConfig { hidden: 32, intermediate: 48, vocab: 400, ..Default::default() };
    make_tiny(dir, &corpus(), &options).unwrap();
}

fn numbers(adapter: &Path) -> HashMap<String, Vec<f32>> {
    let bytes = fs::read(adapter.join("adapter_model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let f32s = |data: &[u8]| data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    tensors.iter().map(|(name, tensor)| (name.to_string(), f32s(tensor.data()))).collect()
}

#[test]
fn a_random_model_learns_the_answers_by_heart() {
    let dir = folder("learns");
    let model = dir.join("model");
    make_tiny(&model, &corpus(), &TinyConfig::default()).unwrap();
    let config = TrainConfig {
        model_dir: model.clone(),
        output_dir: dir.join("out"),
        epochs: 40,
        batch_size: 10,
        gradient_accumulation_steps: 1,
        learning_rate: 5e-3,
        lora: LoraConfig { rank: 16, alpha: 32.0, ..Default::default() },
        checkpoint_every_steps: Some(50),
        ..Default::default()
    };
    let (summary, events) = train(&config, &facts()).unwrap();
    assert_eq!((summary.steps, summary.stopped, summary.dropped_examples), (120, false, 0));
    assert!(summary.loss.unwrap() < 0.05, "{summary:?}");
    let losses: Vec<f64> = events
        .iter()
        .filter_map(|e| match e {
            Event::Step { loss, .. } => Some(*loss),
            _ => None,
        })
        .collect();
    assert!(losses.len() == 120 && losses[0] > 4.0, "{losses:?}");

    let greedy = GenerateConfig { max_new_tokens: 40, ..Default::default() };
    let ask = |adapter, question| generate(&model, adapter, &[turn(Role::User, question)], &greedy).unwrap();
    for [question, answer] in common::FACTS {
        assert_eq!(ask(Some(&*summary.adapter), question), answer);
    }
    let [question, answer] = common::FACTS[7];
    assert_ne!(ask(None, question), answer);
    let sampled = GenerateConfig { temperature: 0.5, top_p: 0.9, ..greedy.clone() };
    let sampled = generate(&model, Some(&summary.adapter), &[turn(Role::User, question)], &sampled).unwrap();
    assert_eq!(sampled, answer);
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let dir = folder("resume");
    tiny(&dir.join("model"));
    let config = |name: &str| TrainConfig {
        model_dir: dir.join("model"),
        output_dir: dir.join(name),
        epochs: 3,
        batch_size: 4,
        gradient_accumulation_steps: 2,
        learning_rate: 1e-2,
        weight_decay: 0.1,
        warmup_ratio: 0.2,
        schedule: Schedule::Linear,
        validation_split: 0.2,
        eval_every_steps: Some(4),
        checkpoint_every_steps: Some(2),
        keep_checkpoints: 2,
        ..Default::default()
    };
    let (whole, events) = train(&config("whole"), &facts()).unwrap();
    assert_eq!(whole.steps, 9);
    assert!(matches!(events[0], Event::Start { examples: 24, validation_examples: 6, total_steps: 9, .. }));
    let evaluated: Vec<u64> = events
        .iter()
        .filter_map(|e| match e {
            Event::Eval { step, .. } => Some(*step),
            _ => None,
        })
        .collect();
    assert_eq!(evaluated, [4, 8, 9]);

    // Stopped after step 5, by the flag that SIGTERM sets.
    let stop = AtomicBool::new(false);
    let stopped = trainer::train(&config("parts"), &facts(), &stop, &mut |event| {
        stop.store(matches!(event, Event::Step { step: 5, .. }), Ordering::Relaxed);
    });
    let stopped = stopped.unwrap();
    assert!(stopped.stopped && stopped.steps == 5);
    let checkpoints = dir.join("parts/checkpoints");
    let names = || {
        let mut names: Vec<String> =
            fs::read_dir(&checkpoints).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["step-4", "step-5"]);
    assert_eq!(stopped.adapter, checkpoints.join("step-5"));

    // The newest one is damaged, and a later one was never finished: it goes on from step 4.
    fs::write(checkpoints.join("step-5/optimizer_means.safetensors"), b"half").unwrap();
    fs::create_dir(checkpoints.join("step-7.tmp")).unwrap();
    let resumed = TrainConfig { resume: true, ..config("parts") };
    let (end, events) = train(&resumed, &facts()).unwrap();
    assert!(matches!(events[0], Event::Start { resumed_from_step: Some(4), .. }), "{:?}", events[0]);
    assert_eq!((end.steps, end.stopped), (9, false));
    assert_eq!(end.validation_loss, whole.validation_loss);

    let (a, b) = (numbers(&dir.join("whole")), numbers(&dir.join("parts")));
    assert_eq!(a.len(), 2 * 7 * 2);
    for (name, a) in &a {
        let off = a.iter().zip(&b[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off <= 1e-6 && a.iter().any(|a| *a != 0.0), "{name} is off by {off}");
    }

    // Stopped before the first step.
    let stop = AtomicBool::new(true);
    let stopped = trainer::train(&config("late"), &facts(), &stop, &mut |_| {}).unwrap();
    assert_eq!((stopped.steps, stopped.stopped, stopped.loss), (0, true, None));
    train(&TrainConfig { resume: true, ..config("late") }, &facts()).unwrap();
    assert_eq!(numbers(&dir.join("late")), b);

    // Once done, a resume changes nothing; another setting is refused.
    let (again, _) = train(&resumed, &facts()).unwrap();
    assert_eq!(again, end);
    let error = train(&TrainConfig { seed: 7, ..resumed }, &facts()).unwrap_err().to_string();
    assert!(error.contains("another seed"), "{error}");
}

#[test]
fn the_adapter_has_the_layout_that_peft_reads() {
    let dir = folder("layout");
    tiny(&dir.join("model"));
    let config = TrainConfig {
        model_dir: dir.join("model"),
        output_dir: dir.join("out"),
        max_steps: Some(1),
        lora: LoraConfig { rank: 3, alpha: 5.0, targets: vec!["q_proj".into(), "down_proj".into()] },
        ..Default::default()
    };
    train(&config, &facts()).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("out/adapter_config.json")).unwrap()).unwrap();
    assert_eq!(json["peft_type"], "LORA");
    assert_eq!((&json["r"], &json["lora_alpha"]), (&3.into(), &5.0.into()));
    assert_eq!(json["base_model_name_or_path"], dir.join("model").to_str().unwrap());
    let bytes = fs::read(dir.join("out/adapter_model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut found: Vec<(String, Vec<usize>)> =
        tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.shape().to_vec())).collect();
    found.sort();
    let mut expected = Vec::new();
    for layer in 0..2 {
        for (module, inputs, outputs) in [("mlp.down_proj", 48, 32), ("self_attn.q_proj", 32, 32)] {
            let name = format!("base_model.model.model.layers.{layer}.{module}");
            expected.push((format!("{name}.lora_A.weight"), vec![3, inputs]));
            expected.push((format!("{name}.lora_B.weight"), vec![outputs, 3]));
        }
    }
    assert_eq!(found, expected);
}
