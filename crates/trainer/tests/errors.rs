//! Whatever is wrong with the input, the answer is an error that says what to do, never a panic.

mod common;

use std::fs;
use std::path::Path;

use common::{conversation, corpus, facts, folder, train, turn};
use serde_json::{Value, json};
use trainer::{
    Conversation, GenerateConfig, LoraConfig, Role, TinyConfig, TrainConfig, TrainError, generate, make_tiny,
};

/// An error's sentence, which exists in Chinese too.
fn sentence(error: TrainError) -> String {
    let chinese = error.message_zh();
    assert!(chinese.chars().filter(|c| ('\u{4e00}'..='\u{9fff}').contains(c)).count() > 5, "{chinese}");
    error.to_string()
}

fn tiny(dir: &Path) {
    let options = TinyConfig { hidden: 16, intermediate: 16, layers: 1, heads: 2, vocab: 300, ..Default::default() };
    make_tiny(dir, &corpus(), &options).unwrap();
}

fn config(dir: &Path) -> TrainConfig {
    TrainConfig { model_dir: dir.join("model"), output_dir: dir.join("out"), max_steps: Some(2), ..Default::default() }
}

/// Changes config.json of the model.
fn with(dir: &Path, key: &str, value: Value) {
    let path = dir.join("model/config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json[key] = value;
    fs::write(path, json.to_string()).unwrap();
}

#[test]
fn a_wrong_model_folder_is_explained() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &[&str]); 12] = [
        ("config", |dir| fs::remove_file(dir.join("model/config.json")).unwrap(), &["config.json", "Check the path"]),
        ("tokenizer", |dir| fs::remove_file(dir.join("model/tokenizer.json")).unwrap(), &["tokenizer.json"]),
        ("weights", |dir| fs::remove_file(dir.join("model/model.safetensors")).unwrap(), &["safetensors", "convert"]),
        ("json", |dir| fs::write(dir.join("model/config.json"), "{").unwrap(), &["config.json is not valid"]),
        ("architecture", |dir| with(dir, "architectures", json!(["GPT2LMHeadModel"])), &["GPT2", "Qwen2ForCausalLM"]),
        ("quantised", |dir| with(dir, "quantization_config", json!({"bits": 4})), &["quantised", "bf16"]),
        ("rope", |dir| with(dir, "rope_scaling", json!({"type": "yarn"})), &["yarn", "llama3"]),
        ("shape", |dir| with(dir, "intermediate_size", json!(17)), &["[17, 16]", "[16, 16]"]),
        ("layers", |dir| with(dir, "num_hidden_layers", json!(2)), &["no tensor", "layers.1"]),
        ("zero", |dir| with(dir, "num_attention_heads", json!(0)), &["num_attention_heads"]),
        ("vocabulary", |dir| with(dir, "vocab_size", json!(100)), &["beyond the model's vocabulary"]),
        ("type", int_weights, &["I32", "not quantised"]),
    ];
    for (name, damage, words) in cases {
        let dir = folder(&format!("wrong-{name}"));
        tiny(&dir.join("model"));
        damage(&dir);
        let error = sentence(train(&config(&dir), &facts()).unwrap_err());
        assert!(words.iter().all(|word| error.contains(word)), "{name}: {error}");
    }
}

fn int_weights(dir: &Path) {
    let path = dir.join("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|w| w == b"\"F32\"").unwrap();
    bytes[at..at + 5].copy_from_slice(b"\"I32\"");
    fs::write(path, bytes).unwrap();
}

#[test]
fn corrupt_weights_never_panic() {
    let dir = folder("corrupt");
    tiny(&dir.join("model"));
    let path = dir.join("model/model.safetensors");
    let sound = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
    let ask = || {
        let greedy = GenerateConfig { max_new_tokens: 1, ..Default::default() };
        generate(&dir.join("model"), None, &[turn(Role::User, "Hi")], &greedy)
    };
    ask().unwrap();
    for length in [0, 7, 8, 100, header, sound.len() - 1] {
        fs::write(&path, &sound[..length]).unwrap();
        let error = sentence(ask().unwrap_err());
        assert!(error.contains("model.safetensors is not valid"), "{length} bytes: {error}");
    }
    let mut refused = 0;
    for i in (0..header).step_by(7) {
        let mut bytes = sound.clone();
        bytes[i] = bytes[i].wrapping_add(1 + (i % 250) as u8);
        fs::write(&path, bytes).unwrap();
        refused += ask().is_err() as usize;
    }
    assert!(refused > 100, "only {refused} refused");
}

#[test]
fn wrong_data_is_explained() {
    let dir = folder("data");
    tiny(&dir.join("model"));
    let fails = |config: &TrainConfig, data: &[Conversation]| sentence(train(config, data).unwrap_err());
    let config = config(&dir);
    assert!(fails(&config, &[]).contains("no examples"));
    let question = Conversation { turns: vec![turn(Role::User, "Hi")] };
    assert!(fails(&config, &[conversation(["a", "b"]), question]).contains("example 2 has no assistant turn"));

    // The error names the least length with which something fits; with it, the others are dropped and counted.
    let short = TrainConfig { max_length: 2, ..config.clone() };
    let error = fails(&short, &facts());
    let needed: usize = error.split("Set max_length to ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(fails(&TrainConfig { max_length: needed - 1, ..config.clone() }, &facts()).contains("cuts off"));
    let (summary, _) = train(&TrainConfig { max_length: needed, ..config.clone() }, &facts()).unwrap();
    assert!(summary.dropped_examples > 0 && summary.dropped_examples < 30, "{summary:?}");

    let template = "{{ raise_exception('roles must alternate') }}";
    fs::write(dir.join("model/chat_template.jinja"), template).unwrap();
    let error = fails(&config, &facts());
    assert!(error.contains("example 1") && error.contains("roles must alternate"), "{error}");
}

#[test]
fn wrong_settings_are_explained() {
    let dir = folder("settings");
    tiny(&dir.join("model"));
    let ok = config(&dir);
    let cases = [
        (TrainConfig { batch_size: 0, ..ok.clone() }, "batch_size"),
        (TrainConfig { learning_rate: f64::NAN, ..ok.clone() }, "learning_rate"),
        (TrainConfig { validation_split: 1.0, ..ok.clone() }, "validation_split"),
        (TrainConfig { max_length: 1, ..ok.clone() }, "max_length"),
        (TrainConfig { lora: LoraConfig { targets: vec!["w".into()], ..Default::default() }, ..ok.clone() }, "q_proj"),
        #[cfg(not(feature = "vulkan"))]
        (TrainConfig { device: trainer::Backend::Vulkan, ..ok.clone() }, "vulkan"),
        (TrainConfig { learning_rate: 1e30, max_grad_norm: 0.0, ..ok.clone() }, "Lower the learning rate"),
    ];
    for (config, word) in cases {
        let error = sentence(train(&config, &facts()).unwrap_err());
        assert!(error.contains(word), "{word}: {error}");
    }
    fs::write(dir.join("file"), "").unwrap();
    let elsewhere = TrainConfig { output_dir: dir.join("file/out"), ..ok };
    let error = sentence(train(&elsewhere, &facts()).unwrap_err());
    assert!(error.contains("cannot write"), "{error}");
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let dir = folder("other");
    tiny(&dir.join("model"));
    train(&config(&dir), &facts()).unwrap();
    let other = TinyConfig { hidden: 32, layers: 1, vocab: 300, ..Default::default() };
    make_tiny(&dir.join("other"), &corpus(), &other).unwrap();
    let ask = |adapter: &Path| {
        let greedy = GenerateConfig { max_new_tokens: 1, ..Default::default() };
        sentence(generate(&dir.join("other"), Some(adapter), &[turn(Role::User, "Hi")], &greedy).unwrap_err())
    };
    assert!(ask(&dir.join("out")).contains("does not fit the model"));
    assert!(ask(&dir.join("model")).contains("adapter_config.json is missing"));
}

/// A model of 6 TiB in a file that takes no space on disk.
#[cfg(target_os = "linux")]
#[test]
fn a_model_that_memory_cannot_hold_is_refused_before_it_is_read() {
    const WIDE: u64 = 1 << 35;
    let dir = folder("huge");
    tiny(&dir.join("model"));
    with(&dir, "intermediate_size", json!(WIDE));
    let path = dir.join("model/model.safetensors");
    let sound = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&sound[8..8 + length]).unwrap();
    let mut end = 0;
    for (name, tensor) in header.iter_mut().filter(|(name, _)| *name != "__metadata__") {
        let mut shape: Vec<u64> = serde_json::from_value(tensor["shape"].clone()).unwrap();
        match name {
            name if name.contains("down_proj") => shape[1] = WIDE,
            name if name.contains("gate_proj") || name.contains("up_proj") => shape[0] = WIDE,
            _ => {}
        }
        let start = end;
        end += 4 * shape.iter().product::<u64>();
        *tensor = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
    }
    let header = Value::from(header).to_string();
    fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8 + header.len() as u64 + end).unwrap();

    let lora = LoraConfig { targets: vec!["q_proj".into()], ..Default::default() };
    let error = train(&TrainConfig { lora, ..config(&dir) }, &facts()).unwrap_err();
    assert!(matches!(error, TrainError::OutOfHostMemory { needed, .. } if needed > end), "{error}");
    assert!(sentence(error).contains("at least 6144.0 GiB"));
    assert!(!dir.join("out").exists());
}

/// Ollama (CVE-2026-7482): a model's header was believed. Here it is measured against the file, and the file against what
/// the format allows, before anything is made of it.
#[test]
fn cve_2026_7482_a_models_header_is_not_believed() {
    let file = |length: u64, header: &[u8]| [&length.to_le_bytes()[..], header].concat();
    let whole = |header: &str| file(header.len() as u64, header.as_bytes());
    let tensor = |shape: &str, offsets: &str| {
        whole(&format!(r#"{{"model.norm.weight":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#))
    };
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("longer than any file", file(u64::MAX, b"{}"), "cut off"),
        ("longer than this file", file(1 << 40, b"{}"), "cut off"),
        ("truncated", file(200, br#"{"model.norm.weight":{"dtype":"F32","shape":[1"#), "cut off"),
        ("no header at all", vec![8, 0, 0], "shorter than a safetensors header"),
        ("a pickle", b"\x80\x04\x95pickle, whatever it is called".to_vec(), "cut off"),
        ("deep", whole(&deep), "its header is wrong"),
        ("beyond the end", tensor("[4]", "[0,16]"), "beyond the end"),
        ("backwards", tensor("[4]", "[16,0]"), "wrong"),
        ("more than can be counted", tensor("[1099511627776,1099511627776]", "[0,18446744073709551615]"), "wrong"),
    ];
    for (name, weights, word) in cases {
        let dir = folder(&format!("header-{}", name.replace(' ', "-")));
        tiny(&dir.join("model"));
        fs::write(dir.join("model/model.safetensors"), weights).unwrap();
        let error = sentence(train(&config(&dir), &facts()).unwrap_err());
        assert!(error.contains(word), "{name}: {error}");
    }
    // A file that is as large as it says, and takes no room on the disk.
    let dir = folder("header-sparse");
    tiny(&dir.join("model"));
    let sparse = fs::File::create(dir.join("model/model.safetensors")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &(1u64 << 30).to_le_bytes(), 0).unwrap();
    sparse.set_len(2 << 30).unwrap();
    let error = sentence(train(&config(&dir), &facts()).unwrap_err());
    assert!(error.contains("would have 1073741824 bytes"), "{error}");
}
