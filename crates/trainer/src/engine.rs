//! The seam between the model and the arithmetic: what a decoder layer needs, forward and backward.

use std::ops::Range;

use crate::weights::Frozen;

/// Does the arithmetic, on f32 matrices whose rows are tokens.
///
/// There is one for the CPU ([`crate::cpu::Cpu`], own kernels) and one for what burn runs on (`burn_engine`).
pub trait Engine: Sync {
    /// An activation, or a trained parameter.
    type Matrix: Clone + Send + Sync;
    /// A frozen weight: outputs × inputs.
    type Weight: Send + Sync;

    fn matrix(&self, rows: usize, columns: usize, data: Vec<f32>) -> Self::Matrix;
    fn numbers(&self, matrix: &Self::Matrix) -> Vec<f32>;
    fn weight(&self, weight: Frozen) -> Self::Weight;

    /// Bytes of device memory that its allocator holds now; none where matrices lie in main memory.
    fn device_bytes(&self) -> Option<u64> {
        None
    }

    /// Runs a piece of work where this engine's operations are cheap to call (in its thread pool).
    fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        work()
    }

    /// The given rows of a weight, or of a matrix.
    fn embed(&self, table: &Self::Weight, rows: &[u32]) -> Self::Matrix;
    fn gather(&self, x: &Self::Matrix, rows: &[u32]) -> Self::Matrix;
    /// The inverse of `gather`: `x` put at the given rows of a matrix of zeros.
    fn scatter(&self, x: &Self::Matrix, rows: &[u32], total: usize) -> Self::Matrix;

    fn add(&self, a: Self::Matrix, b: &Self::Matrix) -> Self::Matrix;
    /// x·Wᵀ + b + low·Bᵀ, with an adapter's `[low, B]`.
    fn linear(
        &self,
        x: &Self::Matrix,
        weight: &Self::Weight,
        bias: Option<&Self::Matrix>,
        adapter: Option<[&Self::Matrix; 2]>,
    ) -> Self::Matrix;
    /// onto + dy·W + dlow·A, the gradient by the input of `linear`, with an adapter's `[dlow, A]`.
    fn linear_backward(
        &self,
        dy: &Self::Matrix,
        weight: &Self::Weight,
        adapter: Option<[&Self::Matrix; 2]>,
        onto: Option<Self::Matrix>,
    ) -> Self::Matrix;
    /// scale · a·b, each operand transposed first if so marked.
    fn product(&self, scale: f32, a: Operand<Self::Matrix>, b: Operand<Self::Matrix>) -> Self::Matrix;

    /// x / sqrt(mean(x²) + eps) · weight over each `weight.len()` numbers of a row (a row may hold several heads).
    fn rms_norm(&self, x: &Self::Matrix, weight: &Self::Matrix, eps: f32) -> Self::Matrix;
    fn rms_norm_backward(&self, dy: &Self::Matrix, x: &Self::Matrix, weight: &Self::Matrix, eps: f32) -> Self::Matrix;

    /// Rotates each head's halves by the angle of the row's position; `inverse` turns back, which is the gradient.
    fn rope(&self, x: Self::Matrix, angles: &Angles, inverse: bool) -> Self::Matrix;

    /// Causal attention within each span. Also gives the log-sum-exp of each row's and head's scores.
    fn attention(&self, q: &Self::Matrix, k: &Self::Matrix, v: &Self::Matrix, shape: &Heads) -> [Self::Matrix; 2];
    /// Gradients by q, k and v; `out` and `lse` are what `attention` gave.
    fn attention_backward(
        &self,
        dout: &Self::Matrix,
        qkv: [&Self::Matrix; 3],
        out: &Self::Matrix,
        lse: &Self::Matrix,
        shape: &Heads,
    ) -> [Self::Matrix; 3];

    /// silu(gate) · up.
    fn swiglu(&self, gate: &Self::Matrix, up: &Self::Matrix) -> Self::Matrix;
    /// Gradients by gate and up.
    fn swiglu_backward(&self, dy: &Self::Matrix, gate: &Self::Matrix, up: &Self::Matrix) -> [Self::Matrix; 2];

    /// Sum of the negative log-likelihoods of the targets under softmax(x·headᵀ), and the gradient of
    /// `scale` × that sum by x if there is a scale. The logits exist only a block of rows at a time.
    fn cross_entropy(
        &self,
        x: &Self::Matrix,
        head: &Self::Weight,
        targets: &[u32],
        scale: Option<f32>,
    ) -> (f64, Option<Self::Matrix>);
}

/// An operand of a product.
#[derive(Clone, Copy)]
pub enum Operand<'a, M> {
    Plain(&'a M),
    Transposed(&'a M),
}

/// Heads of the attention and the spans of rows that belong together.
#[derive(Clone, Debug)]
pub struct Heads {
    pub queries: usize,
    /// Key and value heads; divides `queries`.
    pub keys: usize,
    /// Numbers in a head.
    pub size: usize,
    pub spans: Vec<Span>,
}

/// Rows of one sequence: the last query row sees all key rows, the one before all but the last, and so on.
#[derive(Clone, Debug)]
pub struct Span {
    pub queries: Range<usize>,
    pub keys: Range<usize>,
}

impl Heads {
    pub fn scale(&self) -> f32 {
        1.0 / (self.size as f32).sqrt()
    }

    /// Query heads that share a key head.
    pub fn group(&self) -> usize {
        self.queries / self.keys
    }
}

/// Cosine and sine of the rotary embedding for each row, half a head wide.
#[derive(Clone, Debug)]
pub struct Angles {
    pub half: usize,
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
}
