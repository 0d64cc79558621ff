//! config.json: which architecture, how large.

use std::path::Path;

use serde_json::Value;

use crate::engine::Angles;
use crate::{Hint, TrainError, files};

/// Architectures that share the decoder layer built here.
const SUPPORTED: [&str; 3] = ["Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM"];

/// Of a width that a configuration states, and of layers, heads and a head's size, so that products fit into 64 bits and
/// no list is longer than memory.
const WIDEST: u64 = 1 << 36;
const MOST: u64 = 1 << 16;

#[derive(Clone, Debug)]
pub struct ModelConfig {
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_size: usize,
    pub vocab: usize,
    pub eps: f32,
    /// The output layer is the embedding.
    pub tied: bool,
    /// Queries and keys are normalised head by head (Qwen3).
    pub head_norm: bool,
    pub rope: Rope,
}

/// Rotary position embedding.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Angle per position of each pair of numbers in a head.
    frequencies: Vec<f32>,
}

impl ModelConfig {
    pub fn read(dir: &Path) -> Result<Self, TrainError> {
        const HINT: Hint = [
            "model_dir has to be a Hugging Face model folder. Check the path",
            "model_dir 应为 Hugging Face 格式的模型目录。请检查路径",
        ];
        let path = dir.join("config.json");
        let json: Value = files::read_json(&path, HINT)?;
        Self::parse(&json, &path)
    }

    fn parse(json: &Value, path: &Path) -> Result<Self, TrainError> {
        let architecture = json["architectures"][0].as_str().unwrap_or("none");
        if !SUPPORTED.contains(&architecture) {
            let (found, supported) = (architecture.into(), SUPPORTED.join(", "));
            return Err(TrainError::UnsupportedArchitecture { found, supported });
        }
        let unsupported =
            |feature, hint| -> Result<(), TrainError> { Err(TrainError::UnsupportedFeature { feature, hint }) };
        if !json["quantization_config"].is_null() {
            let hint = ["Use the same model in bf16 or f16", "请使用同一模型的 bf16 或 f16 版本"];
            unsupported(["quantised weights", "量化的权重"].map(String::from), hint)?;
        }
        if let Some(activation) = json["hidden_act"].as_str().filter(|a| *a != "silu") {
            let hint = ["Use a model with silu", "请使用激活函数为 silu 的模型"];
            unsupported([format!("the activation {activation:?}"), format!("激活函数 {activation:?}")], hint)?;
        }
        if json["use_sliding_window"] == true {
            let hint = ["Use a model without it", "请使用没有它的模型"];
            unsupported(["sliding-window attention", "滑动窗口注意力"].map(String::from), hint)?;
        }
        let up_to = |most: u64, key: &str| match json[key].as_u64() {
            Some(n) if (1..=most).contains(&n) => Ok(n as usize),
            _ => {
                let reason = format!("{key} has to be a whole number from 1 to {most}, is {}", json[key]);
                Err(TrainError::bad_file(path, reason))
            }
        };
        let (width, count) = (|key: &str| up_to(WIDEST, key), |key: &str| up_to(MOST, key));
        let (hidden, heads) = (width("hidden_size")?, count("num_attention_heads")?);
        let or = |key: &str, other: usize| if json[key].is_null() { Ok(other) } else { count(key) };
        let kv_heads = or("num_key_value_heads", heads)?;
        let head_size = or("head_dim", hidden / heads)?;
        if heads % kv_heads != 0 || head_size == 0 || head_size % 2 != 0 || head_size as u64 > MOST {
            let reason = format!("{heads} heads of {head_size} numbers do not go with {kv_heads} key and value heads");
            return Err(TrainError::bad_file(path, reason));
        }
        Ok(Self {
            hidden,
            intermediate: width("intermediate_size")?,
            layers: count("num_hidden_layers")?,
            heads,
            kv_heads,
            head_size,
            vocab: width("vocab_size")?,
            eps: json["rms_norm_eps"].as_f64().unwrap_or(1e-6) as f32,
            tied: json["tie_word_embeddings"].as_bool().unwrap_or(false),
            head_norm: architecture == "Qwen3ForCausalLM",
            rope: Rope::parse(json, head_size, path)?,
        })
    }
}

impl Rope {
    /// transformers 5 writes everything to `rope_parameters`; before, it was `rope_theta` and `rope_scaling`.
    fn parse(json: &Value, head_size: usize, path: &Path) -> Result<Self, TrainError> {
        let new = &json["rope_parameters"];
        let scaling = if new.is_object() { new } else { &json["rope_scaling"] };
        let theta = new["rope_theta"].as_f64().or(json["rope_theta"].as_f64()).unwrap_or(10_000.0) as f32;
        let partial = new["partial_rotary_factor"].as_f64().or(json["partial_rotary_factor"].as_f64()).unwrap_or(1.0);
        let kind = scaling["rope_type"].as_str().or(scaling["type"].as_str()).unwrap_or("default");
        let number = |key: &str| {
            let number = scaling[key].as_f64().filter(|n| *n > 0.0).map(|n| n as f32);
            number.ok_or_else(|| TrainError::bad_file(path, format!("{kind} rope scaling needs {key} above 0")))
        };
        let plain = (0..head_size / 2).map(|i| 1.0 / theta.powf(2.0 * i as f32 / head_size as f32));
        let frequencies = match kind {
            _ if partial != 1.0 => None,
            "default" => Some(plain.collect()),
            "linear" => {
                let factor = number("factor")?;
                Some(plain.map(|f| f / factor).collect())
            }
            "llama3" => {
                let (factor, low, high) = (number("factor")?, number("low_freq_factor")?, number("high_freq_factor")?);
                let context = number("original_max_position_embeddings")?;
                let scale = move |f: f32| {
                    let wave = std::f32::consts::TAU / f;
                    if wave < context / high {
                        f
                    } else if wave > context / low {
                        f / factor
                    } else {
                        let smooth = (context / wave - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                };
                Some(plain.map(scale).collect())
            }
            _ => None,
        };
        let frequencies = frequencies.ok_or_else(|| TrainError::UnsupportedFeature {
            feature: [
                format!("the position embedding {kind:?} (rotated share {partial})"),
                format!("位置编码 {kind:?}（旋转比例 {partial}）"),
            ],
            hint: [
                "Use a model with rope scaling default, linear or llama3",
                "请使用 rope 缩放方式为 default、linear 或 llama3 的模型",
            ],
        })?;
        Ok(Self { frequencies })
    }

    pub fn angles(&self, positions: impl Iterator<Item = usize>) -> Angles {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in positions {
            for frequency in &self.frequencies {
                let (s, c) = (position as f32 * frequency).sin_cos();
                cos.push(c);
                sin.push(s);
            }
        }
        Angles { half: self.frequencies.len(), cos, sin }
    }
}
