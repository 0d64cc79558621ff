//! The trained parameters: a pair of low-rank matrices for each adapted projection, read and written in PEFT's layout.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::model_config::ModelConfig;
use crate::rng::Rng;
use crate::weights::{Weights, to_safetensors};
use crate::{Hint, LoraConfig, TrainError, files};

/// Files of an adapter folder.
pub const CONFIG: &str = "adapter_config.json";
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// A projection of a decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pub const ALL: [Self; 7] = [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// Name in configurations, such as `q_proj`.
    pub fn name(self) -> &'static str {
        LoraConfig::ALL_TARGETS[self as usize]
    }

    /// Name of the module in a model's files.
    pub fn module(self, layer: usize) -> String {
        let block = if (self as usize) < 4 { "self_attn" } else { "mlp" };
        format!("model.layers.{layer}.{block}.{}", self.name())
    }

    /// Outputs and inputs.
    pub fn shape(self, config: &ModelConfig) -> [usize; 2] {
        let (hidden, queries) = (config.hidden, config.heads * config.head_size);
        match self {
            Self::Query => [queries, hidden],
            Self::Key | Self::Value => [config.kv_heads * config.head_size, hidden],
            Self::Output => [hidden, queries],
            Self::Gate | Self::Up => [config.intermediate, hidden],
            Self::Down => [hidden, config.intermediate],
        }
    }
}

/// Numbers of an adapter, on the host. A module's update is `scale` · B·A.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub scale: f32,
    pub modules: Vec<Module>,
    /// A and B of each module, in the order of `modules`.
    pub parameters: Vec<[Vec<f32>; 2]>,
}

/// An adapted projection.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    pub layer: usize,
    pub projection: Projection,
    pub outputs: usize,
    pub inputs: usize,
    pub rank: usize,
}

impl Module {
    fn tensors(&self) -> [(String, [usize; 2]); 2] {
        let module = self.projection.module(self.layer);
        let key = |part| format!("base_model.model.{module}.lora_{part}.weight");
        [(key('A'), [self.rank, self.inputs]), (key('B'), [self.outputs, self.rank])]
    }
}

/// The fields of adapter_config.json that PEFT needs, with its names.
#[derive(Serialize)]
struct PeftConfig<'a> {
    peft_type: &'a str,
    task_type: &'a str,
    base_model_name_or_path: &'a str,
    r: usize,
    lora_alpha: f64,
    lora_dropout: f64,
    target_modules: &'a [String],
    bias: &'a str,
    fan_in_fan_out: bool,
    inference_mode: bool,
}

/// The fields of adapter_config.json that decide what the numbers mean.
#[derive(Deserialize)]
struct ReadConfig {
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
}

impl Adapter {
    /// A new adapter as PEFT starts it: A uniform within ±1/√inputs (Kaiming with a = √5), B zero.
    pub fn new(config: &ModelConfig, lora: &LoraConfig, seed: u64) -> Self {
        let mut rng = Rng::new(seed, 1);
        let mut modules = Vec::new();
        for layer in 0..config.layers {
            for projection in Projection::ALL.into_iter().filter(|p| lora.targets.iter().any(|t| t == p.name())) {
                let [outputs, inputs] = projection.shape(config);
                modules.push(Module { layer, projection, outputs, inputs, rank: lora.rank });
            }
        }
        let parameters = modules.iter().map(|module| {
            let bound = 1.0 / (module.inputs as f64).sqrt();
            let a = (0..module.rank * module.inputs).map(|_| ((2.0 * rng.uniform() - 1.0) * bound) as f32);
            [a.collect(), vec![0.0; module.outputs * module.rank]]
        });
        let parameters = parameters.collect();
        Self { scale: (lora.alpha / lora.rank as f64) as f32, modules, parameters }
    }

    /// Reads a folder in PEFT layout.
    pub fn read(dir: &Path, config: &ModelConfig) -> Result<Self, TrainError> {
        const HINT: Hint = [
            "this folder is not an adapter in PEFT layout. Check the path",
            "该目录不是 PEFT 格式的适配器。请检查路径",
        ];
        let found: ReadConfig = files::read_json(&dir.join(CONFIG), HINT)?;
        let mismatch = |reason: String| TrainError::AdapterMismatch { path: dir.into(), reason };
        if found.use_dora || found.r == 0 {
            let feature = ["an adapter that is not plain LoRA", "不是普通 LoRA 的适配器"].map(String::from);
            let hint = ["Merge it into the model with peft first", "请先用 peft 把它合并到模型中"];
            return Err(TrainError::UnsupportedFeature { feature, hint });
        }
        let weights = Weights::open(&[dir.join(WEIGHTS)])?;
        let (mut modules, mut parameters) = (Vec::new(), Vec::new());
        for layer in 0..config.layers {
            for projection in Projection::ALL {
                let [outputs, inputs] = projection.shape(config);
                let module = Module { layer, projection, outputs, inputs, rank: found.r };
                let [(a, a_shape), (b, b_shape)] = module.tensors();
                if weights.has(&a) {
                    let shape = |e| mismatch(format!("{e}"));
                    let a = weights.f32(&a, &a_shape).map_err(shape)?;
                    parameters.push([a, weights.f32(&b, &b_shape).map_err(shape)?]);
                    modules.push(module);
                }
            }
        }
        let count = weights.names().count();
        if count != 2 * modules.len() {
            return Err(mismatch(format!("the model has a place for {} of its {count} tensors", 2 * modules.len())));
        }
        let divisor = if found.use_rslora { (found.r as f64).sqrt() } else { found.r as f64 };
        Ok(Self { scale: (found.lora_alpha / divisor) as f32, modules, parameters })
    }

    /// Writes a folder in PEFT layout.
    pub fn write(&self, dir: &Path, lora: &LoraConfig, model_dir: &Path) -> Result<(), TrainError> {
        files::create_dir(dir)?;
        let tensors = self.tensors(&self.parameters);
        files::write(&dir.join(WEIGHTS), &to_safetensors(tensors))?;
        let config = PeftConfig {
            peft_type: "LORA",
            task_type: "CAUSAL_LM",
            base_model_name_or_path: &model_dir.to_string_lossy(),
            r: lora.rank,
            lora_alpha: lora.alpha,
            lora_dropout: 0.0,
            target_modules: &lora.targets,
            bias: "none",
            fan_in_fan_out: false,
            inference_mode: true,
        };
        files::write_json(&dir.join(CONFIG), &config)
    }

    /// Numbers that belong to the parameters (themselves, or what an optimizer keeps for each), with PEFT's names.
    pub fn tensors<'a>(
        &'a self,
        numbers: &'a [[Vec<f32>; 2]],
    ) -> impl Iterator<Item = (String, Vec<usize>, &'a [f32])> {
        self.modules.iter().zip(numbers).flat_map(|(module, numbers)| {
            let [a, b] = module.tensors();
            [(a.0, a.1.to_vec(), &numbers[0][..]), (b.0, b.1.to_vec(), &numbers[1][..])]
        })
    }

    /// Reads back what was written with the names of `tensors`.
    pub fn read_numbers(&self, path: &Path) -> Result<Vec<[Vec<f32>; 2]>, TrainError> {
        let weights = Weights::open(&[path.into()])?;
        let pairs = self.modules.iter().map(|module| {
            let [(a, a_shape), (b, b_shape)] = module.tensors();
            Ok([weights.f32(&a, &a_shape)?, weights.f32(&b, &b_shape)?])
        });
        pairs.collect()
    }

    pub fn count(&self) -> u64 {
        self.parameters.iter().flatten().map(|p| p.len() as u64).sum()
    }

    /// Number in `modules` of a projection.
    pub fn position(&self, layer: usize, projection: Projection) -> Option<usize> {
        self.modules.iter().position(|m| m.layer == layer && m.projection == projection)
    }

    pub fn upload<E: Engine>(&self, engine: &E) -> Lora<E::Matrix> {
        let pairs = self.modules.iter().zip(&self.parameters).map(|(module, [a, b])| {
            [
                engine.matrix(module.rank, module.inputs, a.clone()),
                engine.matrix(module.outputs, module.rank, b.clone()),
            ]
        });
        Lora { scale: self.scale, pairs: pairs.collect() }
    }
}

/// An adapter on an engine: A and B of each module.
pub struct Lora<M> {
    pub scale: f32,
    pub pairs: Vec<[M; 2]>,
}
