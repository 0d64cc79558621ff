//! What an input is handed to, and what came of it in a word.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use api_types::SubmitTask;
use domain::{FineTune, Home, Recipe};
use recipes::{
    dataset,
    estimate::{Context, ModelShape, Projection},
    models::HubCache,
};
use trainer::{Role, TinyConfig, Turn};

use super::Target;

/// Everything that the inputs of one target need.
pub struct Hunt {
    target: Target,
    folder: PathBuf,
    home: Home,
}

impl Hunt {
    pub fn new(target: Target, folder: &Path) -> Hunt {
        let hunt = Hunt { target, folder: folder.to_owned(), home: Home::new(folder.join("home")) };
        if matches!(target, Target::Safetensors | Target::TrainerConfig) {
            let config =
                TinyConfig { hidden: 16, intermediate: 16, layers: 1, heads: 2, kv_heads: 1, ..TinyConfig::default() };
            trainer::make_tiny(&hunt.model(), &["one two three".into()], &config).expect("a tiny model can be made");
        }
        hunt
    }

    /// One that is right from the first byte to the last, where that is too large to be kept.
    pub fn whole_one(&self) -> Option<Vec<u8>> {
        fs::read(self.model().join(self.part_of_model())).ok()
    }

    /// The same word for what went the same way.
    pub fn try_input(&mut self, input: &[u8]) -> String {
        match self.target {
            Target::Dataset => self.dataset(input),
            Target::Config => self.config(input),
            Target::Safetensors | Target::TrainerConfig => self.part_of_a_model(input),
            Target::Recipe => recipe(input),
            Target::Http => unreachable!("a studio answers those"),
        }
    }

    fn dataset(&self, input: &[u8]) -> String {
        let read = dataset::parse(Cursor::new(input));
        let code = |error: &dataset::DatasetError| error.code.to_owned();
        let read = read.as_ref().map_or_else(code, |conversations| format!("read {}", conversations.len().min(3)));
        let mut results = vec![read];
        for name in ["data.jsonl", "data.json"] {
            let path = self.folder.join(name);
            fs::write(&path, input).expect("the folder can be written");
            results.push(match dataset::check(&path) {
                Err(error) => {
                    // People read these.
                    assert!(!error.to_string().is_empty() && !error.message_zh().is_empty());
                    error.code.to_owned()
                }
                Ok(report) => {
                    let codes: Vec<_> = report.warnings.iter().map(|warning| warning.code.clone()).collect();
                    format!("{:?} {codes:?}", report.format)
                }
            });
            results
                .push(dataset::read_preferences(&path).map_or_else(|error| error.code.to_owned(), |_| "pairs".into()));
        }
        results.join(" ")
    }

    fn config(&self, input: &[u8]) -> String {
        let Ok(text) = std::str::from_utf8(input) else { return "not text".into() };
        let shape = match ModelShape::parse(text) {
            Ok(shape) => shape,
            Err(error) => return format!("{} {}", error.code(), error.to_string().len()),
        };
        let context = Context { home: &self.home, cache: &HubCache::default(), inventory: None, measurements: &[] };
        let mut sizes = vec![shape.parameters(), shape.adapter_parameters(512, &Projection::ALL)];
        for max_length in [16, 131_072] {
            let recipe = FineTune { max_length, batch_size: 1024, ..FineTune::default() };
            sizes.push(context.estimate_shape(&shape, &recipe, Some(u64::MAX)).footprint_bytes);
        }
        let magnitudes: Vec<_> = sizes.iter().map(|size| size.checked_ilog2().unwrap_or(0) / 8).collect();
        format!("{:?} {magnitudes:?}", shape.family)
    }

    fn part_of_a_model(&self, input: &[u8]) -> String {
        let path = self.model().join(self.part_of_model());
        fs::write(&path, input).expect("the folder can be written");
        let turns = [Turn { role: Role::User, content: "one".into() }];
        match trainer::logits(&self.model(), None, &turns) {
            Ok(_) => "loaded".into(),
            Err(error) => {
                let text = error.to_string();
                // Without figures and names, which differ each time.
                let words = text.split(' ').filter(|word| word.chars().all(|letter| letter.is_ascii_lowercase()));
                words.take(12).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// The file that the inputs stand for.
    fn part_of_model(&self) -> &'static str {
        if self.target == Target::TrainerConfig { "config.json" } else { "model.safetensors" }
    }

    fn model(&self) -> PathBuf {
        self.folder.join("model")
    }
}

fn recipe(input: &[u8]) -> String {
    let kind = |error: serde_json::Error| format!("{:?}", error.classify());
    let submission = serde_json::from_slice::<SubmitTask>(input).map_or_else(kind, |_| "submission".into());
    let recipe = match serde_json::from_slice::<Recipe>(input) {
        Err(error) => kind(error),
        Ok(recipe) => match recipes::validate(&recipe) {
            Err(invalid) => {
                assert!(!invalid.message.is_empty() && !invalid.message_zh.is_empty());
                invalid.field.to_owned()
            }
            Ok(()) => {
                // What is valid comes back as it was.
                let written = serde_json::to_string(&recipe).expect("recipes are plain data");
                assert_eq!(serde_json::from_str::<Recipe>(&written).expect("it was written"), recipe);
                "valid".into()
            }
        },
    };
    format!("{submission} {recipe}")
}

/// What inputs of a target are made of.
pub fn words(target: Target) -> &'static [&'static str] {
    match target {
        Target::Dataset => &[
            "{\"instruction\": \"a\", \"output\": \"b\"}\n",
            "\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}]",
            "\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]",
            "\"chosen\": ",
            "\"rejected\": ",
            "\"prompt\": ",
            "\"system\"",
            "\"assistant\"",
            "\\ud800",
            "\\u0000",
            "\u{feff}",
            "\r\n",
            "null",
            "[",
            "]",
            "{}",
            ",",
        ],
        Target::Config => &[
            "\"hidden_size\": ",
            "\"num_hidden_layers\": ",
            "\"num_attention_heads\": ",
            "\"num_key_value_heads\": ",
            "\"intermediate_size\": ",
            "\"vocab_size\": ",
            "\"head_dim\": ",
            "\"text_config\": {",
            "\"num_experts\": ",
            "\"tie_word_embeddings\": true",
            "\"quantization_config\": {\"bits\": 4}",
            "null",
            "[]",
            "{}",
            ",",
            "true",
        ],
        Target::TrainerConfig => &[
            "\"architectures\": [\"Qwen3ForCausalLM\"]",
            "\"hidden_size\": ",
            "\"num_hidden_layers\": ",
            "\"num_attention_heads\": ",
            "\"num_key_value_heads\": ",
            "\"vocab_size\": ",
            "\"head_dim\": ",
            "\"rms_norm_eps\": ",
            "\"rope_theta\": ",
            "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": ",
            "\"low_freq_factor\": ",
            "\"original_max_position_embeddings\": ",
            "\"rope_parameters\": {\"rope_type\": \"linear\"}",
            "\"tie_word_embeddings\": false",
            "null",
            "{}",
            ",",
        ],
        Target::Safetensors => &[
            "\"dtype\":\"F32\"",
            "\"dtype\":\"BF16\"",
            "\"shape\":[",
            "\"data_offsets\":[0,",
            "\"__metadata__\":{",
            "18446744073709551615",
            "model.layers.0.",
            "{",
            "}",
            "]",
        ],
        Target::Recipe => &[
            "\"fine_tune\": ",
            "\"command\": ",
            "\"model_name\": ",
            "\"dataset_file\": ",
            "\"learning_rate\": ",
            "\"max_length\": ",
            "\"lora_targets\": ",
            "\"argv\": [",
            "\"env\": {",
            "\"after\": [\"finetune_1_1,any\"]",
            "null",
            "[]",
            "{}",
            "\\ud800",
        ],
        Target::Http => &[
            "\r\n",
            "\r\n\r\n",
            "Host: localhost\r\n",
            "Content-Length: 18446744073709551615\r\n",
            "Content-Length: 0\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Expect: 100-continue\r\n",
            "Connection: upgrade\r\nUpgrade: h2c\r\n",
            "Range: bytes=0-,-1\r\n",
            "Content-Type: multipart/form-data; boundary=b\r\n",
            "Cookie: sage_session=\r\n",
            "Authorization: Bearer \r\n",
            "GET ",
            "DELETE ",
            "PATCH ",
            "OPTIONS * ",
            " HTTP/1.1\r\n",
            " HTTP/1.0\r\n",
            "/api/v1/tasks/",
            "%00",
            "%2e%2e%2f",
            "?limit=",
            "--b\r\n",
            "0\r\n\r\n",
        ],
    }
}
