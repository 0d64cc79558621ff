//! The arithmetic on the CPU: matrices are vectors of f32, frozen weights stay as they are in the file.

mod attention;
mod gemm;
mod kernels;
mod matrix;
mod transpose;

use rayon::ThreadPool;

pub use self::gemm::Bf16;
use self::gemm::{Element, Target, View, product, products};
pub use self::matrix::Matrix;
use crate::engine::{Angles, Engine, Heads, Operand};
use crate::weights::{Frozen, Numbers};

/// Logits held at once in the loss, in floats (160 MiB).
pub const LOGITS: usize = 40 << 20;

/// The CPU as an [`Engine`].
pub struct Cpu {
    pool: ThreadPool,
}

impl Cpu {
    /// `threads`: none means one per core.
    pub fn new(threads: Option<usize>) -> Self {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build();
        Self { pool: pool.expect("the system grants the threads") }
    }
}

fn operand<'a>(operand: Operand<'a, Matrix>) -> View<'a, f32> {
    match operand {
        Operand::Plain(m) => m.view(),
        Operand::Transposed(m) => m.view().transposed(),
    }
}

/// Calls a generic function with the weight's numbers in the type that they have.
macro_rules! with_numbers {
    ($weight:expr, $numbers:ident => $body:expr) => {
        match &$weight.numbers {
            Numbers::F32($numbers) => $body,
            Numbers::Bf16($numbers) => $body,
        }
    };
}

impl Engine for Cpu {
    type Matrix = Matrix;
    type Weight = Frozen;

    fn matrix(&self, rows: usize, columns: usize, data: Vec<f32>) -> Matrix {
        assert_eq!(data.len(), rows * columns);
        Matrix { rows, columns, data }
    }

    fn numbers(&self, matrix: &Matrix) -> Vec<f32> {
        matrix.data.clone()
    }

    fn weight(&self, weight: Frozen) -> Frozen {
        weight
    }

    fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let result = self.pool.install(work);
        matrix::forget_spare();
        result
    }

    fn embed(&self, table: &Frozen, rows: &[u32]) -> Matrix {
        let mut out = Matrix::unfilled(rows.len(), table.columns);
        with_numbers!(table, numbers => kernels::copy_rows(numbers, table.columns, rows, &mut out.data));
        out
    }

    fn gather(&self, x: &Matrix, rows: &[u32]) -> Matrix {
        let mut out = Matrix::unfilled(rows.len(), x.columns);
        kernels::copy_rows(&x.data, x.columns, rows, &mut out.data);
        out
    }

    fn scatter(&self, x: &Matrix, rows: &[u32], total: usize) -> Matrix {
        let mut out = Matrix::zeros(total, x.columns);
        for (from, &row) in x.data.chunks_exact(x.columns).zip(rows) {
            out.data[row as usize * x.columns..][..x.columns].copy_from_slice(from);
        }
        out
    }

    fn add(&self, mut a: Matrix, b: &Matrix) -> Matrix {
        kernels::add(&mut a.data, &b.data);
        a
    }

    fn linear(&self, x: &Matrix, weight: &Frozen, bias: Option<&Matrix>, adapter: Option<[&Matrix; 2]>) -> Matrix {
        let mut y = Matrix::unfilled(x.rows, weight.rows);
        if let Some(bias) = bias {
            y.data.chunks_exact_mut(weight.rows).for_each(|row| row.copy_from_slice(&bias.data));
        }
        let more = adapter.map(|[low, b]| (low.view(), b.view().transposed()));
        let target = Target { data: &mut y.data, stride: weight.rows, add: bias.is_some() };
        with_numbers!(weight, numbers => {
            multiply(x, View::new(numbers, weight.rows, weight.columns).transposed(), more, target)
        });
        y
    }

    fn linear_backward(
        &self,
        dy: &Matrix,
        weight: &Frozen,
        adapter: Option<[&Matrix; 2]>,
        onto: Option<Matrix>,
    ) -> Matrix {
        let add = onto.is_some();
        let mut dx = onto.unwrap_or_else(|| Matrix::unfilled(dy.rows, weight.columns));
        let more = adapter.map(|[dlow, a]| (dlow.view(), a.view()));
        let target = Target { data: &mut dx.data, stride: weight.columns, add };
        with_numbers!(weight, numbers => {
            multiply(dy, View::new(numbers, weight.rows, weight.columns), more, target)
        });
        dx
    }

    fn product(&self, scale: f32, a: Operand<Matrix>, b: Operand<Matrix>) -> Matrix {
        let (a, b) = (operand(a), operand(b));
        let mut out = Matrix::unfilled(a.rows(), b.columns());
        product(scale, a, b, Target { data: &mut out.data, stride: b.columns(), add: false });
        out
    }

    fn rms_norm(&self, x: &Matrix, weight: &Matrix, eps: f32) -> Matrix {
        let mut y = x.like();
        kernels::rms_norm(&x.data, &weight.data, eps, &mut y.data);
        y
    }

    fn rms_norm_backward(&self, dy: &Matrix, x: &Matrix, weight: &Matrix, eps: f32) -> Matrix {
        let mut dx = x.like();
        kernels::rms_norm_backward(&dy.data, &x.data, &weight.data, eps, &mut dx.data);
        dx
    }

    fn rope(&self, mut x: Matrix, angles: &Angles, inverse: bool) -> Matrix {
        kernels::rope(&mut x.data, x.columns, angles, inverse);
        x
    }

    fn attention(&self, q: &Matrix, k: &Matrix, v: &Matrix, shape: &Heads) -> [Matrix; 2] {
        attention::forward(q, k, v, shape)
    }

    fn attention_backward(
        &self,
        dout: &Matrix,
        qkv: [&Matrix; 3],
        out: &Matrix,
        lse: &Matrix,
        shape: &Heads,
    ) -> [Matrix; 3] {
        attention::backward(dout, qkv, out, lse, shape)
    }

    fn swiglu(&self, gate: &Matrix, up: &Matrix) -> Matrix {
        let mut y = gate.like();
        kernels::swiglu(&gate.data, &up.data, &mut y.data);
        y
    }

    fn swiglu_backward(&self, dy: &Matrix, gate: &Matrix, up: &Matrix) -> [Matrix; 2] {
        let (mut dgate, mut dup) = (gate.like(), up.like());
        kernels::swiglu_backward(&dy.data, &gate.data, &up.data, &mut dgate.data, &mut dup.data);
        [dgate, dup]
    }

    fn cross_entropy(&self, x: &Matrix, head: &Frozen, targets: &[u32], scale: Option<f32>) -> (f64, Option<Matrix>) {
        let (width, words) = (head.columns, head.rows);
        let mut dx = x.like();
        // Equal blocks, as few as the limit on logits allows.
        let blocks = x.rows.div_ceil((LOGITS / words).max(16)).max(1);
        let rows = x.rows.div_ceil(blocks).max(1);
        let mut logits = Matrix::unfilled(rows, words);
        let mut loss = 0.0;
        let parts = x.data.chunks(rows * width).zip(dx.data.chunks_mut(rows * width)).zip(targets.chunks(rows));
        for ((x, dx), targets) in parts {
            let logits = &mut logits.data[..targets.len() * words];
            let x = View::new(x, targets.len(), width);
            with_numbers!(head, numbers => {
                let head = View::new(numbers, words, width);
                product(1.0, x, head.transposed(), Target { data: &mut *logits, stride: words, add: false });
                loss += kernels::cross_entropy(logits, words, targets, scale.unwrap_or(0.0));
                if scale.is_some() {
                    let logits = View::new(logits, targets.len(), words);
                    product(1.0, logits, head, Target { data: dx, stride: width, add: false });
                }
            });
        }
        (loss, scale.map(|_| dx))
    }
}

/// x·b + more; a few rows (as when text is generated) go through a kernel that reads the weights once and packs
/// nothing.
fn multiply<B: Element>(x: &Matrix, b: View<B>, more: Option<(View<f32>, View<f32>)>, target: Target) {
    if x.rows > 2 || !b.is_transposed() {
        return products(1.0, x.view(), b, more, target);
    }
    let Target { data, stride, add } = target;
    kernels::rows_times_transposed(x, b.data(), Target { data: &mut *data, stride, add });
    if let Some((low, b)) = more {
        product(1.0, low, b, Target { data, stride, add: true });
    }
}
