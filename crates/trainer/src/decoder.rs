//! The model: a stack of decoder layers whose weights are frozen, with hand-written gradients by the adapters.
//!
//! Nothing else needs a gradient, so no product with a weight's gradient is ever formed. A layer's activations are kept
//! from the forward pass while they fit a budget; beyond it only the layer's input is, and the rest is computed again
//! on the way back.

use std::sync::Arc;

use crate::TrainError;
use crate::adapter::{Adapter, Lora, Projection};
use crate::engine::{Angles, Engine, Heads, Operand, Span};
use crate::model_config::ModelConfig;
use crate::weights::Weights;

pub struct Model<E: Engine> {
    pub config: ModelConfig,
    pub embedding: Arc<E::Weight>,
    pub head: Arc<E::Weight>,
    pub norm: E::Matrix,
    pub layers: Vec<Layer<E>>,
    /// Bytes of activations that may be kept: as many as the weights take.
    budget: usize,
}

pub struct Layer<E: Engine> {
    linears: [Linear<E>; 7],
    attention_norm: E::Matrix,
    head_norms: Option<[E::Matrix; 2]>,
    feed_forward_norm: E::Matrix,
    eps: f32,
}

/// A projection, with its place among the adapter's modules if it is adapted.
struct Linear<E: Engine> {
    weight: E::Weight,
    bias: Option<E::Matrix>,
    module: Option<usize>,
}

/// Sequences that go through the model together, one after the other in the rows, without padding.
#[derive(Clone, Debug)]
pub struct Batch {
    pub ids: Vec<u32>,
    pub spans: Vec<Span>,
    /// Rows from which a token of an answer is predicted.
    pub rows: Vec<u32>,
    /// The tokens predicted.
    pub targets: Vec<u32>,
}

/// Gradients of A and B of each module.
pub type Gradients<M> = Vec<Option<[M; 2]>>;

/// What a layer's backward pass needs of its forward pass.
struct Kept<M> {
    input: M,
    /// Queries and keys before their norm, where they have one.
    raw: Option<[M; 2]>,
    qkv: [M; 3],
    attended: M,
    lse: M,
    middle: M,
    gate: M,
    up: M,
    /// scale · input·Aᵀ of each adapted projection but the last, which is cheap to do again.
    lows: [Option<M>; 6],
}

/// A layer on the way back: all that was kept, or its input only.
enum Memory<M> {
    Full(Box<Kept<M>>),
    Input(M),
}

impl<E: Engine> Model<E> {
    pub fn load(engine: &E, config: ModelConfig, weights: &Weights, adapter: &Adapter) -> Result<Self, TrainError> {
        let mut bytes = 0;
        let mut matrix = |name: &str, rows: usize, columns: usize| {
            let weight = weights.matrix(name, rows, columns)?;
            bytes += weight.bytes();
            Ok::<_, TrainError>(engine.weight(weight))
        };
        let vector = |name: &str, len: usize| Ok(engine.matrix(1, len, weights.f32(name, &[len])?));
        let embedding = Arc::new(matrix("model.embed_tokens.weight", config.vocab, config.hidden)?);
        let head = match config.tied {
            true => embedding.clone(),
            false => Arc::new(matrix("lm_head.weight", config.vocab, config.hidden)?),
        };
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            let mut linear = |projection: Projection| {
                let (name, [outputs, inputs]) = (projection.module(layer), projection.shape(&config));
                let bias = format!("{name}.bias");
                let bias = weights.has(&bias).then(|| vector(&bias, outputs)).transpose()?;
                let weight = matrix(&format!("{name}.weight"), outputs, inputs)?;
                Ok::<_, TrainError>(Linear { weight, bias, module: adapter.position(layer, projection) })
            };
            let [q, k, v, o, gate, up, down] = Projection::ALL;
            let linears = [linear(q)?, linear(k)?, linear(v)?, linear(o)?, linear(gate)?, linear(up)?, linear(down)?];
            let norm = |name: &str, len| vector(&format!("model.layers.{layer}.{name}.weight"), len);
            let head_norm = |name: &str| norm(&format!("self_attn.{name}"), config.head_size);
            layers.push(Layer {
                linears,
                attention_norm: norm("input_layernorm", config.hidden)?,
                head_norms: match config.head_norm {
                    true => Some([head_norm("q_norm")?, head_norm("k_norm")?]),
                    false => None,
                },
                feed_forward_norm: norm("post_attention_layernorm", config.hidden)?,
                eps: config.eps,
            });
        }
        let norm = vector("model.norm.weight", config.hidden)?;
        Ok(Self { config, embedding, head, norm, layers, budget: bytes })
    }

    pub fn heads(&self, spans: Vec<Span>) -> Heads {
        Heads { queries: self.config.heads, keys: self.config.kv_heads, size: self.config.head_size, spans }
    }

    fn places(&self, batch: &Batch) -> (Angles, Heads) {
        let positions = batch.spans.iter().flat_map(|span| 0..span.queries.len());
        (self.config.rope.angles(positions), self.heads(batch.spans.clone()))
    }

    /// Sum of the negative log-likelihoods of the batch's targets.
    pub fn loss(&self, engine: &E, lora: &Lora<E::Matrix>, batch: &Batch) -> f64 {
        let (angles, heads) = self.places(batch);
        let mut x = engine.embed(&self.embedding, &batch.ids);
        for layer in &self.layers {
            let kept = layer.forward(engine, lora, x, &angles, &heads);
            x = layer.output(engine, lora, &kept);
        }
        let x = engine.gather(&x, &batch.rows);
        let normed = engine.rms_norm(&x, &self.norm, self.config.eps);
        engine.cross_entropy(&normed, &self.head, &batch.targets, None).0
    }

    /// As [`Model::loss`], and the gradients of `scale` × that sum by the adapter's parameters.
    pub fn gradients(
        &self,
        engine: &E,
        lora: &Lora<E::Matrix>,
        batch: &Batch,
        scale: f32,
    ) -> (f64, Gradients<E::Matrix>) {
        let (angles, heads) = self.places(batch);
        let rows = batch.ids.len();
        let first_kept = self.layers.len() - kept_layers(&self.config, self.budget as u64, rows);
        let mut memory = Vec::with_capacity(self.layers.len());
        let mut x = engine.embed(&self.embedding, &batch.ids);
        for (i, layer) in self.layers.iter().enumerate() {
            if i < first_kept {
                memory.push(Memory::Input(x.clone()));
                let kept = layer.forward(engine, lora, x, &angles, &heads);
                x = layer.output(engine, lora, &kept);
            } else {
                let kept = Box::new(layer.forward(engine, lora, x, &angles, &heads));
                x = layer.output(engine, lora, &kept);
                memory.push(Memory::Full(kept));
            }
        }
        let x = engine.gather(&x, &batch.rows);
        let normed = engine.rms_norm(&x, &self.norm, self.config.eps);
        let (loss, dnormed) = engine.cross_entropy(&normed, &self.head, &batch.targets, Some(scale));
        let dnormed = dnormed.expect("a scale gives a gradient");
        let dx = engine.rms_norm_backward(&dnormed, &x, &self.norm, self.config.eps);
        let mut dx = engine.scatter(&dx, &batch.rows, rows);
        let mut gradients: Gradients<E::Matrix> = lora.pairs.iter().map(|_| None).collect();
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let kept = match memory.pop().expect("one for each layer") {
                Memory::Full(kept) => *kept,
                Memory::Input(input) => layer.forward(engine, lora, input, &angles, &heads),
            };
            let mut back = Back { engine, lora, gradients: &mut gradients };
            match layer.backward(&mut back, kept, dx, &angles, &heads, i > 0) {
                Some(d) => dx = d,
                None => break,
            }
        }
        (loss, gradients)
    }
}

/// Layers whose activations are kept in full: the last ones, which are the first on the way back.
pub fn kept_layers(config: &ModelConfig, budget: u64, rows: usize) -> usize {
    let bytes = 4 * (rows * kept_numbers(config)) as u64;
    (budget / bytes.max(1)).min(config.layers as u64) as usize
}

/// Numbers that such a layer keeps for each row.
pub fn kept_numbers(c: &ModelConfig) -> usize {
    let heads = (if c.head_norm { 2 } else { 1 }) * (c.heads + c.kv_heads) + c.heads + c.kv_heads;
    2 * c.hidden + heads * c.head_size + 2 * c.intermediate
}

impl<E: Engine> Layer<E> {
    fn linear(&self, projection: Projection) -> &Linear<E> {
        &self.linears[projection as usize]
    }

    /// Everything up to the last projection.
    fn forward(
        &self,
        engine: &E,
        lora: &Lora<E::Matrix>,
        input: E::Matrix,
        angles: &Angles,
        heads: &Heads,
    ) -> Kept<E::Matrix> {
        let (raw, qkv, [q_low, k_low, v_low]) = self.qkv(engine, lora, &input, angles);
        let [attended, lse] = engine.attention(&qkv[0], &qkv[1], &qkv[2], heads);
        let (middle, o_low) = self.linear(Projection::Output).forward(engine, lora, &attended);
        let middle = engine.add(middle, &input);
        let (gate, up, [gate_low, up_low]) = self.gate_and_up(engine, lora, &middle);
        let lows = [q_low, k_low, v_low, o_low, gate_low, up_low];
        Kept { input, raw, qkv, attended, lse, middle, gate, up, lows }
    }

    /// The last projection.
    fn output(&self, engine: &E, lora: &Lora<E::Matrix>, kept: &Kept<E::Matrix>) -> E::Matrix {
        let (y, _) = self.linear(Projection::Down).forward(engine, lora, &engine.swiglu(&kept.gate, &kept.up));
        engine.add(y, &kept.middle)
    }

    /// Queries and keys before their norm (if any), queries, keys and values, and the adapters' inner results.
    #[expect(clippy::type_complexity, reason = "three results of one step")]
    fn qkv(
        &self,
        engine: &E,
        lora: &Lora<E::Matrix>,
        input: &E::Matrix,
        angles: &Angles,
    ) -> (Option<[E::Matrix; 2]>, [E::Matrix; 3], [Option<E::Matrix>; 3]) {
        let normed = engine.rms_norm(input, &self.attention_norm, self.eps);
        let (q, q_low) = self.linear(Projection::Query).forward(engine, lora, &normed);
        let (k, k_low) = self.linear(Projection::Key).forward(engine, lora, &normed);
        let (v, v_low) = self.linear(Projection::Value).forward(engine, lora, &normed);
        let lows = [q_low, k_low, v_low];
        let (raw, q, k) = match &self.head_norms {
            Some([q_norm, k_norm]) => {
                let (nq, nk) = (engine.rms_norm(&q, q_norm, self.eps), engine.rms_norm(&k, k_norm, self.eps));
                (Some([q, k]), nq, nk)
            }
            None => (None, q, k),
        };
        let (q, k) = (engine.rope(q, angles, false), engine.rope(k, angles, false));
        (raw, [q, k, v], lows)
    }

    fn gate_and_up(
        &self,
        engine: &E,
        lora: &Lora<E::Matrix>,
        middle: &E::Matrix,
    ) -> (E::Matrix, E::Matrix, [Option<E::Matrix>; 2]) {
        let normed = engine.rms_norm(middle, &self.feed_forward_norm, self.eps);
        let (gate, gate_low) = self.linear(Projection::Gate).forward(engine, lora, &normed);
        let (up, up_low) = self.linear(Projection::Up).forward(engine, lora, &normed);
        (gate, up, [gate_low, up_low])
    }

    /// The layer's output for rows that follow those whose keys and values are `past`, which takes in the new ones.
    pub fn extend(
        &self,
        engine: &E,
        lora: &Lora<E::Matrix>,
        input: E::Matrix,
        angles: &Angles,
        attend: impl FnOnce(E::Matrix, E::Matrix, E::Matrix) -> E::Matrix,
    ) -> E::Matrix {
        let (_, [q, k, v], _) = self.qkv(engine, lora, &input, angles);
        let attended = attend(q, k, v);
        let (middle, _) = self.linear(Projection::Output).forward(engine, lora, &attended);
        let middle = engine.add(middle, &input);
        let (gate, up, _) = self.gate_and_up(engine, lora, &middle);
        let (y, _) = self.linear(Projection::Down).forward(engine, lora, &engine.swiglu(&gate, &up));
        engine.add(y, &middle)
    }

    /// Puts the gradients of the layer's adapters in place; gives the gradient by its input where `further` is set.
    fn backward(
        &self,
        back: &mut Back<E>,
        kept: Kept<E::Matrix>,
        dy: E::Matrix,
        angles: &Angles,
        heads: &Heads,
        further: bool,
    ) -> Option<E::Matrix> {
        let engine = back.engine;
        let Kept { input, raw, qkv, attended, lse, middle, gate, up, lows } = kept;
        let [q_low, k_low, v_low, o_low, gate_low, up_low] = lows;

        let down = self.linear(Projection::Down);
        let y = engine.swiglu(&gate, &up);
        let low = down.low(engine, back.lora, &y);
        let dswiglu = down.backward(back, &dy, &y, low, None);
        drop(y);
        let [dgate, dup] = engine.swiglu_backward(&dswiglu, &gate, &up);
        drop((dswiglu, gate, up));
        let normed = engine.rms_norm(&middle, &self.feed_forward_norm, self.eps);
        let dnormed = self.linear(Projection::Gate).backward(back, &dgate, &normed, gate_low, None);
        let dnormed = self.linear(Projection::Up).backward(back, &dup, &normed, up_low, Some(dnormed));
        drop((dgate, dup, normed));
        let dmiddle = engine.rms_norm_backward(&dnormed, &middle, &self.feed_forward_norm, self.eps);
        let dmiddle = engine.add(dmiddle, &dy);

        let dattended = self.linear(Projection::Output).backward(back, &dmiddle, &attended, o_low, None);
        let [q, k, v] = &qkv;
        let [dq, dk, dv] = engine.attention_backward(&dattended, [q, k, v], &attended, &lse, heads);
        let (mut dq, mut dk) = (engine.rope(dq, angles, true), engine.rope(dk, angles, true));
        if let (Some([q_norm, k_norm]), Some([q, k])) = (&self.head_norms, &raw) {
            dq = engine.rms_norm_backward(&dq, q, q_norm, self.eps);
            dk = engine.rms_norm_backward(&dk, k, k_norm, self.eps);
        }
        let normed = engine.rms_norm(&input, &self.attention_norm, self.eps);
        let [query, key, value] = [Projection::Query, Projection::Key, Projection::Value].map(|p| self.linear(p));
        if !further {
            query.adapter_backward(back, &dq, &normed, q_low);
            key.adapter_backward(back, &dk, &normed, k_low);
            value.adapter_backward(back, &dv, &normed, v_low);
            return None;
        }
        let dnormed = query.backward(back, &dq, &normed, q_low, None);
        let dnormed = key.backward(back, &dk, &normed, k_low, Some(dnormed));
        let dnormed = value.backward(back, &dv, &normed, v_low, Some(dnormed));
        let dinput = engine.rms_norm_backward(&dnormed, &input, &self.attention_norm, self.eps);
        Some(engine.add(dinput, &dmiddle))
    }
}

/// The way back through the layers.
struct Back<'a, E: Engine> {
    engine: &'a E,
    lora: &'a Lora<E::Matrix>,
    gradients: &'a mut Gradients<E::Matrix>,
}

impl<E: Engine> Linear<E> {
    /// x·Wᵀ + b + low·Bᵀ, and low = s·x·Aᵀ.
    fn forward(&self, engine: &E, lora: &Lora<E::Matrix>, x: &E::Matrix) -> (E::Matrix, Option<E::Matrix>) {
        let low = self.low(engine, lora, x);
        let adapter = self.module.zip(low.as_ref()).map(|(module, low)| [low, &lora.pairs[module][1]]);
        (engine.linear(x, &self.weight, self.bias.as_ref(), adapter), low)
    }

    /// s·x·Aᵀ.
    fn low(&self, engine: &E, lora: &Lora<E::Matrix>, x: &E::Matrix) -> Option<E::Matrix> {
        let [a, _] = &lora.pairs[self.module?];
        Some(engine.product(lora.scale, Operand::Plain(x), Operand::Transposed(a)))
    }

    /// Puts the adapter's gradients in place; onto + the gradient by x.
    fn backward(
        &self,
        back: &mut Back<E>,
        dy: &E::Matrix,
        x: &E::Matrix,
        low: Option<E::Matrix>,
        onto: Option<E::Matrix>,
    ) -> E::Matrix {
        let dlow = self.adapter_backward(back, dy, x, low);
        let adapter = self.module.zip(dlow.as_ref()).map(|(module, dlow)| [dlow, &back.lora.pairs[module][0]]);
        back.engine.linear_backward(dy, &self.weight, adapter, onto)
    }

    /// Puts the adapter's gradients in place: dB = dyᵀ·low, dA = dlowᵀ·x; gives dlow = s·dy·B.
    fn adapter_backward(
        &self,
        back: &mut Back<E>,
        dy: &E::Matrix,
        x: &E::Matrix,
        low: Option<E::Matrix>,
    ) -> Option<E::Matrix> {
        let (engine, module, low) = (back.engine, self.module?, low?);
        let b = Operand::Plain(&back.lora.pairs[module][1]);
        let db = engine.product(1.0, Operand::Transposed(dy), Operand::Plain(&low));
        let dlow = engine.product(back.lora.scale, Operand::Plain(dy), b);
        let da = engine.product(1.0, Operand::Transposed(&dlow), Operand::Plain(x));
        back.gradients[module] = Some([da, db]);
        Some(dlow)
    }
}

#[cfg(test)]
mod tests;
