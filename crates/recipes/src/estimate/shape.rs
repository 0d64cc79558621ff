//! How large a model is in each direction, from its config.json.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// No real config.json comes near this; a larger file is not one.
const LARGEST: u64 = 32 << 20;

/// The numbers of a decoder that decide its memory and its arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelShape {
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Width of the feed-forward block.
    pub intermediate: u64,
    pub layers: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Numbers per head.
    pub head_dim: u64,
    pub vocab: u64,
    /// The output layer is the embedding.
    pub tied: bool,
    /// Bytes per weight in the files.
    #[serde(default = "two")]
    pub weight_bytes: u64,
}

fn two() -> u64 {
    2
}

/// Families whose decoder layer is built alike: grouped-query attention, gated feed-forward, two RMS norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// The first Qwen, whose config.json counts both halves of the gated block.
    Qwen,
    /// Qwen 2 and 2.5.
    Qwen2,
    Qwen3,
    /// Llama 2 and 3, and others with its layer.
    Llama,
    Mistral,
    Granite,
}

#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    #[error("{} cannot be read: {error}. Give a model's folder, or its config.json", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(
        "config.json is not what a model's configuration looks like: {reason}. Fetch the model's config.json again"
    )]
    Damaged { reason: String },
    #[error(
        "models of type {found:?} are not known to the estimator. It knows qwen, qwen2, qwen3, llama, mistral and granite"
    )]
    Family { found: String },
    #[error("config.json does not say {field}, or says something impossible. Fetch the model's config.json again")]
    Field { field: &'static str },
}

impl ShapeError {
    pub fn code(&self) -> &'static str {
        match self {
            ShapeError::Unreadable { .. } => "model-config-unreadable",
            ShapeError::Damaged { .. } | ShapeError::Field { .. } => "model-config-damaged",
            ShapeError::Family { .. } => "model-family-unknown",
        }
    }

    pub fn message_zh(&self) -> String {
        match self {
            ShapeError::Unreadable { path, error } => {
                format!("无法读取 {}：{error}。请填写模型目录或其 config.json", path.display())
            }
            ShapeError::Damaged { reason } => format!("config.json 不是有效的模型配置：{reason}。请重新下载该文件"),
            ShapeError::Family { found } => {
                format!("暂不支持估算 {found:?} 类型的模型。支持 qwen、qwen2、qwen3、llama、mistral 和 granite")
            }
            ShapeError::Field { field } => format!("config.json 缺少 {field}，或其值不可能。请重新下载该文件"),
        }
    }
}

impl ModelShape {
    /// Reads config.json itself, or the one in a folder.
    pub fn load(path: &Path) -> Result<ModelShape, ShapeError> {
        let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
        let mut text = String::new();
        let read = File::open(&file).and_then(|opened| opened.take(LARGEST).read_to_string(&mut text));
        read.map_err(|error| ShapeError::Unreadable { path: file, error })?;
        ModelShape::parse(&text)
    }

    /// From the text of a config.json.
    pub fn parse(text: &str) -> Result<ModelShape, ShapeError> {
        let json: Value =
            serde_json::from_str(text).map_err(|error| ShapeError::Damaged { reason: error.to_string() })?;
        if !json.is_object() {
            return Err(ShapeError::Damaged { reason: "it is no JSON object".into() });
        }
        // A model that also sees or hears keeps its language model apart.
        let own = if json["text_config"].is_object() { &json["text_config"] } else { &json };
        let kind = own["model_type"].as_str().or(json["model_type"].as_str()).unwrap_or("none");
        let family = match kind {
            "qwen" => Family::Qwen,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            "llama" => Family::Llama,
            "mistral" => Family::Mistral,
            "granite" => Family::Granite,
            other => return Err(ShapeError::Family { found: other.chars().take(60).collect() }),
        };
        let number = |field: &'static str| match own[field].as_u64() {
            Some(number @ 1..=10_000_000) => Ok(number),
            _ => Err(ShapeError::Field { field }),
        };
        let or = |field: &'static str, other: u64| if own[field].is_null() { Ok(other) } else { number(field) };
        let (hidden, heads) = (number("hidden_size")?, number("num_attention_heads")?);
        let both_halves = number("intermediate_size")?;
        let tied = own["tie_word_embeddings"].as_bool().or(json["tie_word_embeddings"].as_bool());
        let dtype = ["dtype", "torch_dtype"].iter().find_map(|key| own[*key].as_str().or(json[*key].as_str()));
        let shape = ModelShape {
            family,
            hidden,
            intermediate: if family == Family::Qwen { both_halves / 2 } else { both_halves },
            layers: number("num_hidden_layers")?,
            heads,
            kv_heads: or("num_key_value_heads", heads)?,
            head_dim: or("head_dim", hidden / heads)?,
            vocab: number("vocab_size")?,
            tied: tied.unwrap_or(false),
            weight_bytes: if matches!(dtype, Some("float32" | "float")) { 4 } else { 2 },
        };
        // Beyond these no model is real, and below them no product overflows.
        let impossible = [
            ("hidden_size", shape.hidden > 1 << 20),
            ("intermediate_size", !(1..=1 << 20).contains(&shape.intermediate)),
            ("num_hidden_layers", shape.layers > 10_000),
            ("head_dim", !(1..=1 << 20).contains(&shape.q())),
            ("num_key_value_heads", !shape.heads.is_multiple_of(shape.kv_heads)),
        ];
        match impossible.into_iter().find(|(_, is_so)| *is_so) {
            Some((field, _)) => Err(ShapeError::Field { field }),
            None => Ok(shape),
        }
    }

    /// Width of the queries.
    pub fn q(&self) -> u64 {
        self.heads * self.head_dim
    }

    /// Width of the keys, and of the values.
    pub fn kv(&self) -> u64 {
        self.kv_heads * self.head_dim
    }

    /// Weights of the projections of all layers: what is quantised, and what LoRA stands beside.
    pub fn linear_parameters(&self) -> u64 {
        self.layers
            * Projection::ALL.iter().map(|projection| projection.inputs(self) * projection.outputs(self)).sum::<u64>()
    }

    /// Weights of the embedding, and of the output layer where it is another.
    pub fn embedding_parameters(&self) -> u64 {
        self.vocab * self.hidden * if self.tied { 1 } else { 2 }
    }

    /// Norms and biases.
    pub fn vector_parameters(&self) -> u64 {
        let norms = match self.family {
            Family::Qwen3 => 2 * self.hidden + 2 * self.head_dim,
            _ => 2 * self.hidden,
        };
        let biases = match self.family {
            Family::Qwen | Family::Qwen2 => self.q() + 2 * self.kv(),
            _ => 0,
        };
        self.layers * (norms + biases) + self.hidden
    }

    pub fn parameters(&self) -> u64 {
        self.linear_parameters() + self.embedding_parameters() + self.vector_parameters()
    }

    /// Parameters of adapters of this rank beside these projections of every layer.
    pub fn adapter_parameters(&self, rank: u64, targets: &[Projection]) -> u64 {
        let both = |target: &Projection| target.inputs(self) + target.outputs(self);
        self.layers * rank * targets.iter().map(both).sum::<u64>()
    }
}

/// One of the seven matrices of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Projection {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

impl Projection {
    pub const ALL: [Projection; 7] = [
        Projection::Query,
        Projection::Key,
        Projection::Value,
        Projection::Output,
        Projection::Gate,
        Projection::Up,
        Projection::Down,
    ];

    /// By the last part of the module's name, such as `q_proj`.
    pub fn named(name: &str) -> Option<Projection> {
        Projection::ALL.into_iter().find(|projection| projection.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Projection::Query => "q_proj",
            Projection::Key => "k_proj",
            Projection::Value => "v_proj",
            Projection::Output => "o_proj",
            Projection::Gate => "gate_proj",
            Projection::Up => "up_proj",
            Projection::Down => "down_proj",
        }
    }

    pub fn inputs(self, shape: &ModelShape) -> u64 {
        match self {
            Projection::Output => shape.q(),
            Projection::Down => shape.intermediate,
            _ => shape.hidden,
        }
    }

    pub fn outputs(self, shape: &ModelShape) -> u64 {
        match self {
            Projection::Query => shape.q(),
            Projection::Key | Projection::Value => shape.kv(),
            Projection::Gate | Projection::Up => shape.intermediate,
            Projection::Output | Projection::Down => shape.hidden,
        }
    }
}
