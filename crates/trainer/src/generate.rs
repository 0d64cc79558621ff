//! Text generation, one token at a time with the keys and values of all tokens before it kept.

use std::path::Path;

use crate::adapter::{Adapter, Lora};
use crate::cpu::{Cpu, Matrix};
use crate::decoder::Model;
use crate::engine::{Engine, Span};
use crate::examples::Encoder;
use crate::model_config::ModelConfig;
use crate::rng::Rng;
use crate::weights::Weights;
use crate::{GenerateConfig, TrainError, Turn};

/// Answers a conversation with a model and, if given, an adapter in PEFT layout.
///
/// Returns the text of the answer without special tokens. Runs on the CPU.
pub fn generate(
    model_dir: &Path,
    adapter: Option<&Path>,
    turns: &[Turn],
    config: &GenerateConfig,
) -> Result<String, TrainError> {
    if !(config.temperature >= 0.0 && config.top_p > 0.0) {
        let (field, value) = match config.top_p > 0.0 {
            true => ("temperature", config.temperature),
            false => ("top_p", config.top_p),
        };
        let hint = [
            "temperature has to be 0 or more, top_p above 0 and at most 1",
            "temperature 应不小于 0，top_p 应大于 0 且不超过 1",
        ];
        return Err(TrainError::BadSetting { field, value: value.to_string(), hint });
    }
    let loaded = Loaded::new(model_dir, adapter)?;
    let prompt = loaded.encoder.prompt(turns)?;
    let mut rng = Rng::new(config.seed, 3);
    let mut past = Past::new(&loaded.model);
    let mut answer = Vec::new();
    let mut next = prompt;
    while answer.len() < config.max_new_tokens && !next.is_empty() {
        let logits = loaded.engine.run(|| past.extend(&loaded, &next));
        let token = choose(&logits, config, &mut rng);
        if loaded.encoder.is_end(token) {
            break;
        }
        answer.push(token);
        next = vec![token];
    }
    loaded.encoder.decode(&answer)
}

/// Tokens of a conversation that asks for an answer, and the logits of what may follow each of them.
///
/// For comparing with other implementations.
pub fn logits(
    model_dir: &Path,
    adapter: Option<&Path>,
    turns: &[Turn],
) -> Result<(Vec<u32>, Vec<Vec<f32>>), TrainError> {
    let loaded = Loaded::new(model_dir, adapter)?;
    let prompt = loaded.encoder.prompt(turns)?;
    let mut past = Past::new(&loaded.model);
    let rows = prompt.iter().map(|id| loaded.engine.run(|| past.extend(&loaded, &[*id]))).collect();
    Ok((prompt, rows))
}

/// A model with everything that goes with it.
struct Loaded {
    engine: Cpu,
    encoder: Encoder,
    model: Model<Cpu>,
    lora: Lora<Matrix>,
}

impl Loaded {
    fn new(model_dir: &Path, adapter: Option<&Path>) -> Result<Self, TrainError> {
        let engine = Cpu::new(None);
        let config = ModelConfig::read(model_dir)?;
        let encoder = Encoder::of_model(model_dir, config.vocab)?;
        let adapter = match adapter {
            Some(dir) => Adapter::read(dir, &config)?,
            None => Adapter { scale: 1.0, modules: Vec::new(), parameters: Vec::new() },
        };
        let model = Model::load(&engine, config, &Weights::of_model(model_dir)?, &adapter)?;
        let lora = adapter.upload(&engine);
        Ok(Self { engine, encoder, model, lora })
    }
}

/// Keys and values of the tokens so far, layer by layer.
struct Past(Vec<[Matrix; 2]>);

impl Past {
    fn new(model: &Model<Cpu>) -> Self {
        Self(model.layers.iter().map(|_| [Matrix::default(), Matrix::default()]).collect())
    }

    /// Takes in tokens; gives the logits of what follows them.
    fn extend(&mut self, loaded: &Loaded, ids: &[u32]) -> Vec<f32> {
        let Loaded { engine, model, lora, .. } = loaded;
        let before = self.0[0][0].rows;
        let angles = model.config.rope.angles(before..before + ids.len());
        let heads = model.heads(vec![Span { queries: 0..ids.len(), keys: 0..before + ids.len() }]);
        let mut x = engine.embed(&model.embedding, ids);
        for (layer, [keys, values]) in model.layers.iter().zip(&mut self.0) {
            x = layer.extend(engine, lora, x, &angles, |q, k, v| {
                keys.append(&k);
                values.append(&v);
                let [attended, _] = engine.attention(&q, keys, values, &heads);
                attended
            });
        }
        let last = engine.gather(&x, &[ids.len() as u32 - 1]);
        let normed = engine.rms_norm(&last, &model.norm, model.config.eps);
        engine.numbers(&engine.linear(&normed, &model.head, None, None))
    }
}

/// The most likely token, or one drawn among the most likely.
fn choose(logits: &[f32], config: &GenerateConfig, rng: &mut Rng) -> u32 {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if config.temperature == 0.0 {
        return order.into_iter().min_by(by_logit).unwrap_or(0);
    }
    order.sort_unstable_by(by_logit);
    let max = logits[order[0] as usize];
    let weight = |&i: &u32| (((logits[i as usize] - max) / config.temperature) as f64).exp();
    let total: f64 = order.iter().map(weight).sum();
    // The fewest tokens that together reach top_p.
    let mut share = 0.0;
    let mut kept = order.len();
    for (i, token) in order.iter().enumerate() {
        share += weight(token) / total;
        if share >= config.top_p as f64 {
            kept = i + 1;
            break;
        }
    }
    let mut draw = rng.uniform() * share.min(1.0) * total;
    for token in &order[..kept] {
        draw -= weight(token);
        if draw <= 0.0 {
            return *token;
        }
    }
    order[kept - 1]
}
