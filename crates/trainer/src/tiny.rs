//! A small random model to practise on.

use std::path::Path;

use serde_json::json;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerBuilder};

use crate::adapter::Projection;
use crate::model_config::ModelConfig;
use crate::rng::Rng;
use crate::template::CHATML;
use crate::weights::to_safetensors;
use crate::{TinyConfig, TrainError, files};

const END_OF_TEXT: &str = "<|endoftext|>";
const TURN_START: &str = "<|im_start|>";
const TURN_END: &str = "<|im_end|>";

/// Writes a small random Qwen2 model in Hugging Face layout, with a tokenizer trained on `corpus` and a ChatML template.
///
/// The weights are wider spread than those of a model that is to be trained from scratch, so that an adapter alone can
/// teach it: all of the embedding's rows have length about 2.
pub fn make_tiny(dir: &Path, corpus: &[String], options: &TinyConfig) -> Result<(), TrainError> {
    check(options)?;
    files::create_dir(dir)?;
    let vocab = write_tokenizer(dir, corpus, options)?;
    let (end, turn_end) = (vocab - 3, vocab - 1);
    let config = json!({
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": options.hidden,
        "intermediate_size": options.intermediate,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
        "num_key_value_heads": options.kv_heads,
        "vocab_size": vocab,
        "max_position_embeddings": options.max_positions,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "use_sliding_window": false,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "torch_dtype": "float32",
        "eos_token_id": turn_end,
        "bos_token_id": end,
    });
    files::write_json(&dir.join("config.json"), &config)?;
    let generation = json!({"eos_token_id": [turn_end, end], "pad_token_id": end, "do_sample": false});
    files::write_json(&dir.join("generation_config.json"), &generation)?;
    let tokenizer = json!({
        "tokenizer_class": "Qwen2Tokenizer",
        "chat_template": CHATML,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "model_max_length": options.max_positions,
        "clean_up_tokenization_spaces": false,
    });
    files::write_json(&dir.join("tokenizer_config.json"), &tokenizer)?;
    write_weights(dir, options)
}

fn check(options: &TinyConfig) -> Result<(), TrainError> {
    let TinyConfig { hidden, heads, kv_heads, vocab, intermediate, layers, .. } = *options;
    let bad = |field, value: usize, hint| Err(TrainError::BadSetting { field, value: value.to_string(), hint });
    if layers == 0 || intermediate == 0 {
        return bad("layers or intermediate", 0, ["use 1 or more", "请使用 1 或更大的数"]);
    }
    if heads == 0 || !hidden.is_multiple_of(2 * heads) || hidden == 0 {
        return bad(
            "heads",
            heads,
            ["hidden has to be a multiple of twice the number of heads", "hidden 应为 heads 两倍的整数倍"],
        );
    }
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return bad("kv_heads", kv_heads, ["it has to divide heads", "它应能整除 heads"]);
    }
    if vocab < 260 {
        return bad(
            "vocab",
            vocab,
            ["use 260 or more: 256 bytes and the special tokens", "请使用 260 或更大的数：256 个字节和特殊 token"],
        );
    }
    Ok(())
}

/// Trains a byte-level BPE tokenizer; gives the size of its vocabulary.
fn write_tokenizer(dir: &Path, corpus: &[String], options: &TinyConfig) -> Result<usize, TrainError> {
    let failed = |e: tokenizers::Error| TrainError::Tokenizer { reason: e.to_string() };
    let alphabet = ByteLevel::alphabet();
    let trainer = BpeTrainerBuilder::new()
        .vocab_size(options.vocab - 3)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(alphabet.into_iter().collect())
        .build();
    let bytes = ByteLevel::new(false, false, true);
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(Some(NFC))
        .with_pre_tokenizer(Some(PreTokenizerWrapper::ByteLevel(bytes)))
        .with_post_processor(Some(PostProcessorWrapper::ByteLevel(bytes)))
        .with_decoder(Some(DecoderWrapper::ByteLevel(bytes)))
        .build()
        .map_err(failed)?;
    let mut trainer = trainer;
    tokenizer.train(&mut trainer, corpus.iter().map(String::as_str)).map_err(failed)?;
    // After training, so that they come last whatever was learned.
    let special = [END_OF_TEXT, TURN_START, TURN_END].map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(&special);
    let text = tokenizer.to_string(true).map_err(failed)?;
    files::write(&dir.join("tokenizer.json"), text.as_bytes())?;
    Ok(tokenizer.get_vocab_size(true))
}

fn write_weights(dir: &Path, options: &TinyConfig) -> Result<(), TrainError> {
    let config = ModelConfig::read(dir)?;
    let mut rng = Rng::new(options.seed, 4);
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let mut random = |name: String, rows: usize, columns: usize, length: f64| {
        let deviation = length / (columns as f64).sqrt();
        let numbers = (0..rows * columns).map(|_| (rng.normal() * deviation) as f32).collect();
        tensors.push((name, vec![rows, columns], numbers));
    };
    random("model.embed_tokens.weight".into(), config.vocab, config.hidden, 2.0);
    for layer in 0..config.layers {
        for projection in Projection::ALL {
            let [outputs, inputs] = projection.shape(&config);
            random(format!("{}.weight", projection.module(layer)), outputs, inputs, 1.0);
        }
    }
    let mut constant = |name: String, len: usize, value: f32| tensors.push((name, vec![len], vec![value; len]));
    constant("model.norm.weight".into(), config.hidden, 1.0);
    for layer in 0..config.layers {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            constant(format!("model.layers.{layer}.{norm}.weight"), config.hidden, 1.0);
        }
        for projection in [Projection::Query, Projection::Key, Projection::Value] {
            let [outputs, _] = projection.shape(&config);
            constant(format!("{}.bias", projection.module(layer)), outputs, 0.0);
        }
    }
    let tensors = tensors.iter().map(|(name, shape, numbers)| (name.clone(), shape.clone(), &numbers[..]));
    files::write(&dir.join("model.safetensors"), &to_safetensors(tensors))
}
