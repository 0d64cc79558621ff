//! How a model is trained, as far as memory and time depend on it.

use domain::{Device, DeviceKind, FineTune, Loss, Method, Objective, Parallelism, TrainerKind};

use super::rate::Rate;
use super::shape::Projection;

/// Everything about a training but the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    pub engine: Engine,
    pub method: Method,
    pub quantization: Quantization,
    /// Sequences per micro-batch.
    pub batch: u64,
    /// Tokens per sequence.
    pub length: u64,
    pub rank: u64,
    /// Empty for a full fine-tune.
    pub targets: Vec<Projection>,
    /// Bytes per number of the adapters, their gradients and each of the optimizer's two averages.
    pub adapter_bytes: u64,
    /// Adapters drop out inputs, which keeps a copy and a mask of them.
    pub dropout: bool,
    pub checkpointing: bool,
    pub attention: Attention,
    pub loss: LossKind,
    /// Norms whose backward pass needs their input only, not a 32-bit copy.
    pub fused_norms: bool,
    pub optimizer: Optimizer,
    /// More than one micro-batch per optimizer step: gradients stay while the next is computed.
    pub accumulates: bool,
    /// Micro-batches per optimizer step.
    pub accumulation: u64,
    pub upcast: Upcast,
    /// Weights, gradients and activations have 32 bits, not 16: on the processor, and where whole models are trained on
    /// cards without bf16.
    pub full_precision: bool,
    pub allocator: Allocator,
    pub gpus: u64,
    pub parallelism: Parallelism,
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The built-in trainer on the processor: f32 arithmetic, host memory.
    Processor,
    /// PyTorch on a GPU, weights and activations in 16 bits.
    Torch,
}

/// How the frozen matrices of the layers are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantization {
    None,
    Nf4,
    /// The scales are quantised too.
    Nf4Double,
    Gptq4,
    Gptq8,
    Int8,
}

impl Quantization {
    /// Bytes per weight: the number itself, and its share in the scales (one of 32 bits per 64 weights; with double
    /// quantisation one of 8 bits; GPTQ: 16 + 4 bits per 128).
    pub fn weight_bytes(self) -> f64 {
        match self {
            Quantization::None => 2.0,
            Quantization::Nf4 => 0.5 + 4.0 / 64.0,
            Quantization::Nf4Double => 0.5 + 1.0 / 64.0 + 4.0 / (64.0 * 256.0),
            Quantization::Gptq4 => 0.5 + 2.5 / 128.0,
            Quantization::Gptq8 => 1.0 + 3.0 / 128.0,
            Quantization::Int8 => 1.0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attention {
    /// Flash attention or PyTorch's fused kernels: no matrix of length × length.
    Fused,
    Eager,
}

/// How the loss over the vocabulary is computed; decides what is held for each token and word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// transformers: 16-bit logits, a 32-bit copy, its log-softmax, and (depending on version and mixed precision) a
    /// shifted copy or gradients: 12 to 14 bytes.
    Upcast,
    /// The same without any further copy: 12 bytes.
    Direct,
    /// 16-bit logits and a kernel that works in place on a 32-bit copy: 8 bytes.
    Kernel,
    /// 16-bit logits and gradients of all tokens, 32-bit copies of a part: 5 bytes.
    Parts,
    /// The last layer and the loss for so many tokens at a time: 16-bit and 32-bit logits, and 16-bit gradients.
    Chunks(u64),
    /// The last layer and the loss as one kernel.
    Fused,
}

impl LossKind {
    /// Bytes for the logits of so many tokens.
    pub fn bytes(self, tokens: u64, vocab: u64) -> u64 {
        match self {
            LossKind::Upcast => 13 * tokens * vocab,
            LossKind::Direct => 12 * tokens * vocab,
            LossKind::Kernel => 8 * tokens * vocab,
            LossKind::Parts => 5 * tokens * vocab,
            LossKind::Chunks(chunk) => 8 * tokens.min(chunk) * vocab,
            LossKind::Fused => 0,
        }
    }
}

/// AdamW in its forms; each keeps two averages per parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Optimizer {
    /// PyTorch's default works on all parameters at once and needs one more copy of them while it does.
    Foreach,
    /// A piece at a time, in so many bytes.
    InPlace(u64),
}

/// What the preparation for a quantised base turns into 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Upcast {
    Nothing,
    /// The norms, and with them the residual stream.
    Norms,
    /// All that is not quantised: norms, embedding and output layer.
    Everything,
}

/// How GPU memory is handed out, which decides what is held and used by nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Allocator {
    /// `expandable_segments:True`: what is freed serves any other size.
    Expandable,
    /// PyTorch's default with sequences of one length.
    Blocks,
    /// PyTorch's default with sequences of many lengths: blocks that fit none of the next.
    VariedBlocks,
    /// PyTorch's default with sequences that nobody has described: expected as of one length, at most as of many.
    AnyBlocks,
}

/// Tokens whose logits the `peft` trainer holds at once.
const PEFT_CHUNK: u64 = 256;

impl Configuration {
    /// What our trainers do with a recipe.
    pub fn of(recipe: &FineTune) -> Configuration {
        match recipe.trainer {
            Some(TrainerKind::Peft) => Configuration::peft(recipe),
            _ => Configuration::builtin(recipe),
        }
    }

    /// The trainer `peft`: 16-bit base, 32-bit adapters, a loop of its own.
    fn peft(recipe: &FineTune) -> Configuration {
        let full = recipe.method == Method::Full;
        Configuration {
            engine: Engine::Torch,
            quantization: match recipe.quantization_bits() {
                Some(4) => Quantization::Nf4Double,
                Some(8) => Quantization::Int8,
                _ => Quantization::None,
            },
            adapter_bytes: 4,
            dropout: false,
            fused_norms: false,
            loss: match recipe.loss {
                Some(Loss::Hf) => LossKind::Direct,
                Some(Loss::Fused | Loss::Chunked) | None => LossKind::Chunks(PEFT_CHUNK),
            },
            // Its own AdamW for 16-bit parameters works on 16 Mi numbers at a time, in 32 bits.
            optimizer: if full { Optimizer::InPlace(6 * (4 << 24)) } else { Optimizer::Foreach },
            upcast: Upcast::Nothing,
            allocator: Allocator::Expandable,
            ..Configuration::common(recipe)
        }
    }

    /// The built-in trainer: weights as in the file, everything else in 32 bits, no quantisation.
    fn builtin(recipe: &FineTune) -> Configuration {
        Configuration {
            engine: Engine::Processor,
            method: Method::Lora,
            quantization: Quantization::None,
            gpus: 1,
            ..Configuration::common(recipe)
        }
    }

    /// A run of transformers and peft as people publish them: PyTorch's own allocator and AdamW, adapters with dropout.
    pub fn published(recipe: &FineTune) -> Configuration {
        Configuration {
            engine: Engine::Torch,
            quantization: match recipe.quantization_bits() {
                Some(4) => Quantization::Nf4Double,
                Some(8) => Quantization::Int8,
                _ => Quantization::None,
            },
            dropout: recipe.method == Method::Lora,
            loss: match recipe.loss {
                Some(Loss::Fused) => LossKind::Fused,
                Some(Loss::Chunked) => LossKind::Parts,
                Some(Loss::Hf) | None => LossKind::Upcast,
            },
            // The packages that bring the one bring the other.
            fused_norms: recipe.loss == Some(Loss::Fused),
            optimizer: Optimizer::Foreach,
            allocator: Allocator::AnyBlocks,
            ..Configuration::common(recipe)
        }
    }

    fn common(recipe: &FineTune) -> Configuration {
        // Of a preference both answers are computed together.
        let sequences = if recipe.objective == Objective::Dpo { 2 } else { 1 };
        Configuration {
            engine: Engine::Torch,
            method: recipe.method,
            quantization: Quantization::None,
            batch: sequences * u64::from(recipe.batch_size),
            length: u64::from(recipe.max_length),
            rank: u64::from(recipe.lora_rank),
            targets: targets(recipe),
            adapter_bytes: 4,
            dropout: false,
            checkpointing: recipe.gradient_checkpointing,
            attention: Attention::Fused,
            loss: LossKind::Direct,
            fused_norms: false,
            optimizer: Optimizer::Foreach,
            accumulates: recipe.gradient_accumulation_steps > 1,
            accumulation: u64::from(recipe.gradient_accumulation_steps),
            upcast: Upcast::Nothing,
            full_precision: false,
            allocator: Allocator::Blocks,
            gpus: u64::from(recipe.gpus.max(1)),
            parallelism: recipe.parallelism,
        }
    }

    /// The same on this device: what it cannot compute in bf16, our trainer computes in 32 bits.
    pub fn on(self, device: &Device) -> Configuration {
        let full = self.method == Method::Full;
        let full_precision = device.kind == DeviceKind::Cpu || full && !Rate::has_bf16(&device.name);
        Configuration { full_precision: self.engine == Engine::Torch && full_precision, ..self }
    }

    /// Tokens per micro-batch.
    pub fn tokens(&self) -> u64 {
        self.batch * self.length
    }

    /// The share of weights, gradients and optimizer that each device holds.
    pub(super) fn shards(&self) -> u64 {
        if self.parallelism == Parallelism::Fsdp { self.gpus } else { 1 }
    }
}

fn targets(recipe: &FineTune) -> Vec<Projection> {
    match (&recipe.method, recipe.lora_targets.is_empty()) {
        (Method::Full, _) => Vec::new(),
        (Method::Lora, true) => Projection::ALL.to_vec(),
        (Method::Lora, false) => {
            let named = |projection: &Projection| recipe.lora_targets.iter().any(|name| name == projection.name());
            Projection::ALL.into_iter().filter(named).collect()
        }
    }
}
