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
    let losses = losses(&events);
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

fn losses(events: &[Event]) -> Vec<f64> {
    let loss = |event: &Event| match event {
        Event::Step { loss, .. } => Some(*loss),
        _ => None,
    };
    events.iter().filter_map(loss).collect()
}

#[test]
fn a_probe_measures_and_changes_nothing() {
    let dir = folder("probe");
    tiny(&dir.join("model"));
    let config = |name: &str, probe| TrainConfig {
        model_dir: dir.join("model"),
        output_dir: dir.join(name),
        epochs: 8,
        gradient_accumulation_steps: 3,
        learning_rate: 1e-2,
        probe,
        ..Default::default()
    };
    let (_, events) = train(&config("probed", true), &facts()).unwrap();
    let Event::Probe { peak_bytes, allocated_bytes, seconds_per_step, tokens } = events[1] else {
        panic!("{:?}", events[1])
    };
    assert!(seconds_per_step > 0.0 && tokens > 10 && allocated_bytes.is_none());
    let [memory, end] = &events[events.len() - 2..] else { panic!() };
    assert!(matches!(end, Event::End { .. }));
    let Event::Memory { peak_bytes: in_all, .. } = memory else { panic!("{memory:?}") };
    if cfg!(target_os = "linux") {
        assert!(peak_bytes > Some(1 << 20) && in_all > &Some(1 << 20));
    }
    // The epochs are too short for a checkpoint each.
    let checkpoints: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Checkpoint { step, .. } => Some(*step),
            _ => None,
        })
        .collect();
    assert_eq!(checkpoints, [80]);

    let (_, plain) = train(&config("plain", false), &facts()).unwrap();
    assert_eq!(losses(&events), losses(&plain), "to the last bit");
    assert_eq!(numbers(&dir.join("probed")), numbers(&dir.join("plain")));

    // Twice the longest of so few would be more than 2 % of all.
    let short = TrainConfig { epochs: 1, ..config("short", true) };
    let (_, events) = train(&short, &facts()).unwrap();
    assert!(!events.iter().any(|event| matches!(event, Event::Probe { .. })));
}

#[test]
fn the_best_checkpoint_is_kept_besides_the_newest_also_by_a_resumed_run() {
    let dir = folder("best");
    tiny(&dir.join("model"));
    // So fast that what was learnt is soon lost again.
    let config = |name: &str| TrainConfig {
        model_dir: dir.join("model"),
        output_dir: dir.join(name),
        epochs: 6,
        batch_size: 8,
        gradient_accumulation_steps: 1,
        learning_rate: 0.1,
        warmup_ratio: 0.9,
        validation_split: 0.2,
        eval_every_steps: Some(1),
        checkpoint_every_steps: Some(1),
        ..Default::default()
    };
    let kept = |name: &str| {
        let names = fs::read_dir(dir.join(name).join("checkpoints")).unwrap().map(|entry| entry.unwrap().file_name());
        let step = |name: std::ffi::OsString| name.to_str().unwrap().strip_prefix("step-").unwrap().parse().unwrap();
        let mut steps: Vec<u64> = names.map(step).collect();
        steps.sort();
        steps
    };
    let (_, events) = train(&config("whole"), &facts()).unwrap();
    let validated = events.iter().filter_map(|event| match event {
        Event::Eval { step, loss } => Some((*step, *loss)),
        _ => None,
    });
    let (best, lowest) = validated.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert!(best < 12, "the later ones are worse: {events:?}");
    assert_eq!(kept("whole"), [best, 17, 18]);
    let Some(Event::End { best: Some(told), .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!((told.step, told.loss), (best, lowest));
    assert!(told.path.join("adapter_model.safetensors").exists());

    let stop = AtomicBool::new(false);
    let stopped = trainer::train(&config("parts"), &facts(), &stop, &mut |event| {
        stop.fetch_or(matches!(event, Event::Step { step: 14, .. }), Ordering::Relaxed);
    });
    assert!(stopped.unwrap().stopped);
    assert_eq!(kept("parts"), [best, 13, 14]);
    train(&TrainConfig { resume: true, ..config("parts") }, &facts()).unwrap();
    assert_eq!(kept("parts"), [best, 17, 18]);

    train(&TrainConfig { validation_split: 0.0, ..config("unvalidated") }, &facts()).unwrap();
    assert_eq!(kept("unvalidated").len(), 2, "nobody knows which is best");
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
    let (whole, whole_events) = train(&config("whole"), &facts()).unwrap();
    assert_eq!(whole.steps, 9);
    assert!(matches!(whole_events[0], Event::Start { examples: 24, validation_examples: 6, total_steps: 9, .. }));
    let evaluated: Vec<u64> = whole_events
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

    // As an attempt does that follows one which ran out of memory: half the micro-batch, the same examples in a step.
    let halved = |name| TrainConfig { batch_size: 2, gradient_accumulation_steps: 4, ..config(name) };
    let stop = AtomicBool::new(false);
    let stopped = trainer::train(&config("halved"), &facts(), &stop, &mut |event| {
        stop.store(matches!(event, Event::Step { step: 5, .. }), Ordering::Relaxed);
    });
    assert_eq!(stopped.unwrap().steps, 5);
    let (_, others) = train(&TrainConfig { resume: true, ..halved("halved") }, &facts()).unwrap();
    assert!(matches!(others[0], Event::Start { resumed_from_step: Some(5), .. }), "{:?}", others[0]);
    let (expected, found) = (losses(&whole_events), losses(&others));
    assert_eq!(found.len(), 4);
    for (expected, found) in expected[5..].iter().zip(found) {
        assert!((found / expected - 1.0).abs() < 1e-5, "{found} is not {expected}");
    }
    let fewer = TrainConfig { batch_size: 2, resume: true, ..config("halved") };
    let error = train(&fewer, &facts()).unwrap_err().to_string();
    assert!(error.contains("another batch_size × gradient_accumulation_steps (there 8, now 4)"), "{error}");

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
