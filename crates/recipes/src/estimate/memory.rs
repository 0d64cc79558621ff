//! The peak of a training step, part by part.
//!
//! A step has three moments at which memory can peak: the loss, when the kept activations and the logits are there; the
//! backward pass of the last layer, whose activations were just computed again; and the optimizer's step, when all
//! gradients are there. What is there in each moment follows from which tensors PyTorch keeps for the backward pass of
//! each operation (16-bit activations, 32-bit copies in the norms). The few figures that do not follow (bytes per
//! logit, the allocator's slack, the context) are fitted on published peaks: data/published_peaks.csv.

use domain::{Breakdown, Method};

use super::configuration::{Allocator, Attention, Configuration, Engine, LossKind, Optimizer, Quantization, Upcast};
use super::shape::{ModelShape, Projection};

/// The driver's context and the libraries' own memory on a GPU.
const CONTEXT: u64 = 768 << 20;
/// Buffers of the library through which GPUs speak to each other.
const COLLECTIVES: u64 = 512 << 20;
/// The built-in trainer itself: program, tokenizer, examples, what the allocator keeps.
const PROCESS: u64 = 64 << 20;
/// Logits that the built-in trainer holds at once.
const BUILTIN_LOGITS: u64 = 160 << 20;

/// The slack where lengths vary.
pub(super) const VARIED: f64 = 2.0;

/// The parts of the footprint, and what of it the token-dependent part is.
pub(super) struct Memory {
    pub breakdown: Breakdown,
    /// Bytes that depend on the micro-batch; the allocator's slack is a share of them.
    pub dynamic: u64,
}

pub(super) fn peak(shape: &ModelShape, configuration: &Configuration) -> Memory {
    match configuration.engine {
        Engine::Processor => on_processor(shape, configuration),
        Engine::Torch => in_torch(shape, configuration),
    }
}

/// What one moment of the step holds beyond weights, adapters and optimizer.
#[derive(Clone, Copy, Default)]
struct Moment {
    gradients: u64,
    activations: u64,
    logits: u64,
    workspace: u64,
}

impl Moment {
    fn total(&self) -> u64 {
        self.gradients + self.activations + self.logits + self.workspace
    }
}

fn in_torch(shape: &ModelShape, c: &Configuration) -> Memory {
    let (tokens, h) = (c.tokens(), shape.hidden);
    let shards = c.shards();
    let parameters = shape.parameters();
    let full = c.method == Method::Full;
    let adapters = shape.adapter_parameters(c.rank, &c.targets);

    // Adapters are small: each device holds them whole.
    let gradients = if full { 2 * parameters / shards } else { c.adapter_bytes * adapters };
    let base = Breakdown {
        weights: weights(shape, c) / shards,
        adapters: if full { 0 } else { c.adapter_bytes * adapters },
        optimizer: 2 * gradients,
        ..Breakdown::default()
    };

    let block = tokens * block(shape, c);
    let residual = if c.upcast == Upcast::Nothing { 2 } else { 4 };
    let kept = if c.checkpointing { tokens * residual * h * shape.layers } else { block * shape.layers };
    // Sharded weights are gathered a layer at a time (one in use, one on its way), the outer ones for the whole step.
    let gathered = match shards {
        1 => 0,
        _ => 2 * shape.embedding_parameters() + 2 * 2 * shape.linear_parameters() / shape.layers,
    };
    let earlier = if c.accumulates { gradients } else { 0 };

    let loss = Moment {
        gradients: earlier,
        activations: kept,
        logits: c.loss.bytes(tokens, shape.vocab),
        // The stream into the last norm, its 32-bit copy, and what comes out of it.
        workspace: 8 * tokens * h + gathered,
    };
    let back = Moment {
        // The output layer's own gradient comes first.
        gradients: if full { earlier.max(2 * shape.vocab * h / shards) } else { earlier },
        activations: kept + if c.checkpointing { block } else { 0 },
        logits: 0,
        workspace: tokens * (6 * shape.intermediate + 4 * h + scores_back(shape, c)) + gathered,
    };
    // The last layer on the way back, which is the first: all gradients, no kept activations.
    let end = Moment { gradients, activations: block, ..back };
    let step = Moment {
        gradients,
        workspace: match c.optimizer {
            Optimizer::Foreach => gradients,
            Optimizer::InPlace(bytes) => bytes.min(12 * parameters),
        },
        ..Moment::default()
    };

    let moments = [loss, back, end, step];
    let peak = moments.into_iter().max_by_key(Moment::total).expect("there are moments");
    let dynamic = [loss, back].iter().map(|moment| moment.total() - moment.gradients - gathered).max().unwrap_or(0);
    let breakdown = Breakdown {
        gradients: peak.gradients,
        activations: peak.activations,
        logits: peak.logits,
        workspace: peak.workspace,
        slack: (dynamic as f64 * slack(c)) as u64,
        context: CONTEXT + if c.gpus > 1 { COLLECTIVES } else { 0 },
        ..base
    };
    if !c.full_precision {
        return Memory { breakdown, dynamic };
    }
    // All that has 16 bits has 32; quantised weights, adapters and what is computed in 32 bits anyway stay.
    let quantised = c.quantization != Quantization::None;
    let breakdown = Breakdown {
        weights: breakdown.weights * if quantised { 1 } else { 2 },
        gradients: breakdown.gradients * if full { 2 } else { 1 },
        optimizer: breakdown.optimizer * if full { 2 } else { 1 },
        activations: 2 * breakdown.activations,
        workspace: 2 * breakdown.workspace,
        slack: 2 * breakdown.slack,
        ..breakdown
    };
    Memory { breakdown, dynamic: 2 * dynamic }
}

/// Bytes of all weights.
fn weights(shape: &ModelShape, c: &Configuration) -> u64 {
    let outer = shape.embedding_parameters() * if c.upcast == Upcast::Everything { 4 } else { 2 };
    let vectors = shape.vector_parameters() * if c.upcast == Upcast::Nothing { 2 } else { 4 };
    (shape.linear_parameters() as f64 * c.quantization.weight_bytes()) as u64 + outer + vectors
}

/// Bytes per token that one layer keeps for its backward pass.
fn block(shape: &ModelShape, c: &Configuration) -> u64 {
    let (h, q, kv, i) = (shape.hidden, shape.q(), shape.kv(), shape.intermediate);
    let full = c.method == Method::Full;
    let adapted = |projections: &[Projection]| projections.iter().filter(|p| c.targets.contains(p)).count() as u64;
    // What goes into a matrix is kept where the matrix or its adapter learns. Adapters with dropout keep a copy and a
    // mask each; without, they share one that is there already where an operation before or after keeps it too.
    let inputs = |width: u64, projections: &[Projection], shared: bool| match (full, adapted(projections)) {
        (true, _) => 2 * width * u64::from(!shared),
        (false, 0) => 0,
        (false, adapters) if c.dropout => 3 * width * adapters,
        (false, _) => 2 * width * u64::from(!shared),
    };
    // Two norms with a 32-bit copy each, or the stream between attention and feed-forward alone.
    let norms = if c.fused_norms { 2 * h } else { 8 * h };
    let attention = inputs(h, &[Projection::Query, Projection::Key, Projection::Value], false)
        + 2 * (q + 2 * kv)
        + 2 * q
        + inputs(q, &[Projection::Output], true)
        + match c.attention {
            Attention::Fused => 0,
            Attention::Eager => 5 * shape.heads * c.length,
        };
    // Gate, its activation, and up; their product where down learns.
    let feed_forward =
        inputs(h, &[Projection::Gate, Projection::Up], false) + 6 * i + inputs(i, &[Projection::Down], false);
    norms + attention + feed_forward
}

/// Bytes per token of the attention matrix's gradient.
fn scores_back(shape: &ModelShape, c: &Configuration) -> u64 {
    if c.attention == Attention::Eager { 4 * shape.heads * c.length } else { 0 }
}

/// What the allocator holds beyond the peak, as a share of the token-dependent bytes: means of nvidia-smi less
/// allocated in the published runs. Logits of several copies leave large blocks behind that nothing else fits.
fn slack(c: &Configuration) -> f64 {
    match (c.allocator, c.loss) {
        (Allocator::Expandable, _) => 0.11,
        (Allocator::VariedBlocks, _) => VARIED,
        (_, LossKind::Fused | LossKind::Chunks(_)) => 0.11,
        (_, LossKind::Upcast | LossKind::Direct | LossKind::Parts) => 0.32,
        (_, LossKind::Kernel) => 0.60,
    }
}

/// The built-in trainer: hand-written gradients, so what is there is known exactly.
fn on_processor(shape: &ModelShape, c: &Configuration) -> Memory {
    let (tokens, h, i) = (c.tokens(), shape.hidden, shape.intermediate);
    let weights = shape.parameters() * shape.weight_bytes;
    let adapters = shape.adapter_parameters(c.rank, &c.targets);
    let raw = if shape.family == super::shape::Family::Qwen3 { shape.q() + shape.kv() } else { 0 };
    // Input and middle of the stream, queries, keys, values, what attention gives, gate and up; 32 bits each.
    let layer = 4 * tokens * (2 * h + 2 * shape.q() + 2 * shape.kv() + raw + 2 * i);
    let inputs = 4 * tokens * h;
    // Layers are kept in full while they fit as many bytes as the weights take; of the others only the input.
    let in_full = (weights as f64 / layer.max(1) as f64).min(shape.layers as f64);
    let rest = shape.layers as f64 - in_full;
    let activations = (in_full * layer as f64 + rest * inputs as f64) as u64;
    let again = (rest.min(1.0) * layer as f64) as u64;
    let back = again + 4 * tokens * (2 * i + 2 * h);
    let logits = (4 * tokens * shape.vocab).min(BUILTIN_LOGITS);
    // The loss comes when all is kept, the way back when it begins: only one of the two.
    let gradient = 4 * tokens * h;
    let (logits, workspace) = if logits + gradient > back { (logits, gradient) } else { (0, back) };
    let breakdown = Breakdown {
        weights,
        adapters: 4 * adapters,
        gradients: 4 * adapters,
        optimizer: 8 * adapters,
        activations,
        logits,
        workspace,
        slack: 0,
        context: PROCESS,
    };
    Memory { breakdown, dynamic: activations + logits + workspace }
}
