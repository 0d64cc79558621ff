//! The arithmetic on burn's tensors, for the devices that burn runs on.
//!
//! Plain tensor operations without burn's automatic differentiation: the gradients are written out by the model. On
//! burn's CPU back end it serves to test the very operations that a GPU runs. Weights are held in f32.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData, activation};

use crate::engine::{Angles, Engine, Heads, Operand, Span};
use crate::weights::{Frozen, Numbers};

/// Logits held at once in the loss, in floats (160 MiB).
const LOGITS: usize = 40 << 20;

type Matrix = Tensor<2>;

/// A device of burn's as an [`Engine`].
pub struct BurnEngine {
    device: Device,
}

impl BurnEngine {
    /// The GPU that Vulkan offers first.
    #[cfg(feature = "vulkan")]
    pub fn vulkan() -> Self {
        Self { device: Device::vulkan(burn::tensor::DeviceKind::DefaultDevice) }
    }

    /// The CPU.
    #[cfg(test)]
    pub fn flex() -> Self {
        Self { device: Device::flex() }
    }

    fn indices(&self, rows: &[u32]) -> Tensor<1, Int> {
        let rows: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
        let count = rows.len();
        Tensor::from_data(TensorData::new(rows, [count]), &self.device)
    }

    fn tensor<const D: usize>(&self, shape: [usize; D], data: Vec<f32>) -> Tensor<D> {
        Tensor::from_data(TensorData::new(data, shape), &self.device)
    }

    /// One head after the other: rows of `m` × (heads · size) to heads × rows × size.
    fn split(&self, m: &Matrix, rows: &std::ops::Range<usize>, heads: usize, size: usize) -> Tensor<3> {
        let rows = rows.clone();
        let part = m.clone().slice([rows.clone(), 0..heads * size]);
        part.reshape([rows.len(), heads, size]).swap_dims(0, 1)
    }

    /// The inverse of `split`.
    fn join(&self, heads: Tensor<3>) -> Matrix {
        let [count, rows, size] = heads.dims();
        heads.swap_dims(0, 1).reshape([rows, count * size])
    }

    /// What hides later keys: 0 where a query sees a key, else a number that no score outweighs.
    fn mask(&self, span: &Span) -> Tensor<3> {
        let (queries, keys) = (span.queries.len(), span.keys.len());
        let ahead = keys - queries;
        let mask = (0..queries).flat_map(|i| (0..keys).map(move |j| if j <= i + ahead { 0.0 } else { -1e30 }));
        self.tensor([1, queries, keys], mask.collect())
    }

    /// Masked scores of one span: heads × queries × keys.
    fn scores(&self, q: &Tensor<3>, k: &Tensor<3>, shape: &Heads, span: &Span) -> Tensor<3> {
        let (queries, keys) = (span.queries.len(), span.keys.len());
        let q = q.clone().reshape([shape.keys, shape.group() * queries, shape.size]);
        let scores = q.matmul(k.clone().swap_dims(1, 2)) * shape.scale();
        scores.reshape([shape.queries, queries, keys]) + self.mask(span)
    }
}

fn operand(operand: Operand<Matrix>) -> Matrix {
    match operand {
        Operand::Plain(m) => m.clone(),
        Operand::Transposed(m) => m.clone().transpose(),
    }
}

fn sigmoid(x: &Matrix) -> Matrix {
    activation::sigmoid(x.clone())
}

/// Rows regrouped so that each holds what one norm goes over, and its inverse root mean square.
fn grouped(x: &Matrix, n: usize, eps: f32) -> (Matrix, Matrix) {
    let [rows, columns] = x.dims();
    let x = x.clone().reshape([rows * columns / n, n]);
    let inverse = ((x.clone() * x.clone()).mean_dim(1) + eps).sqrt().recip();
    (x, inverse)
}

impl Engine for BurnEngine {
    type Matrix = Matrix;
    type Weight = Matrix;

    fn device_bytes(&self) -> Option<u64> {
        Some(self.device.memory_pool_usage()?.bytes_reserved)
    }

    fn matrix(&self, rows: usize, columns: usize, data: Vec<f32>) -> Matrix {
        self.tensor([rows, columns], data)
    }

    fn numbers(&self, matrix: &Matrix) -> Vec<f32> {
        matrix.clone().into_data().try_to_vec().expect("our tensors are f32")
    }

    fn weight(&self, weight: Frozen) -> Matrix {
        let numbers = match weight.numbers {
            Numbers::F32(numbers) => numbers,
            Numbers::Bf16(numbers) => numbers.iter().map(|n| f32::from_bits((n.0 as u32) << 16)).collect(),
        };
        self.matrix(weight.rows, weight.columns, numbers)
    }

    fn embed(&self, table: &Matrix, rows: &[u32]) -> Matrix {
        self.gather(table, rows)
    }

    fn gather(&self, x: &Matrix, rows: &[u32]) -> Matrix {
        x.clone().select(0, self.indices(rows))
    }

    fn scatter(&self, x: &Matrix, rows: &[u32], total: usize) -> Matrix {
        let zeros = Tensor::zeros([total, x.dims()[1]], &self.device);
        zeros.select_assign(0, self.indices(rows), x.clone(), IndexingUpdateOp::Add)
    }

    fn add(&self, a: Matrix, b: &Matrix) -> Matrix {
        a + b.clone()
    }

    fn linear(&self, x: &Matrix, weight: &Matrix, bias: Option<&Matrix>, adapter: Option<[&Matrix; 2]>) -> Matrix {
        let mut y = x.clone().matmul(weight.clone().transpose());
        if let Some(bias) = bias {
            y = y + bias.clone();
        }
        match adapter {
            Some([low, b]) => y + low.clone().matmul(b.clone().transpose()),
            None => y,
        }
    }

    fn linear_backward(
        &self,
        dy: &Matrix,
        weight: &Matrix,
        adapter: Option<[&Matrix; 2]>,
        onto: Option<Matrix>,
    ) -> Matrix {
        let mut dx = dy.clone().matmul(weight.clone());
        if let Some([dlow, a]) = adapter {
            dx = dx + dlow.clone().matmul(a.clone());
        }
        match onto {
            Some(onto) => onto + dx,
            None => dx,
        }
    }

    fn product(&self, scale: f32, a: Operand<Matrix>, b: Operand<Matrix>) -> Matrix {
        operand(a).matmul(operand(b)) * scale
    }

    fn rms_norm(&self, x: &Matrix, weight: &Matrix, eps: f32) -> Matrix {
        let (grouped, inverse) = grouped(x, weight.dims()[1], eps);
        (grouped * inverse * weight.clone()).reshape(x.dims())
    }

    fn rms_norm_backward(&self, dy: &Matrix, x: &Matrix, weight: &Matrix, eps: f32) -> Matrix {
        let n = weight.dims()[1];
        let (grouped, inverse) = grouped(x, n, eps);
        let scaled = dy.clone().reshape(grouped.dims()) * weight.clone();
        let cubed = inverse.clone() * inverse.clone() * inverse.clone();
        let along = (scaled.clone() * grouped.clone()).sum_dim(1) * cubed / n as f32;
        (scaled * inverse - grouped * along).reshape(x.dims())
    }

    fn rope(&self, x: Matrix, angles: &Angles, inverse: bool) -> Matrix {
        let ([rows, columns], half) = (x.dims(), angles.half);
        let heads = columns / (2 * half);
        let x = x.reshape([rows, heads, 2 * half]);
        let cos = self.tensor([rows, 1, half], angles.cos.clone());
        let sin = self.tensor([rows, 1, half], angles.sin.clone());
        let sin = if inverse { sin.neg() } else { sin };
        let a = x.clone().slice([0..rows, 0..heads, 0..half]);
        let b = x.slice([0..rows, 0..heads, half..2 * half]);
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        let second = b * cos + a * sin;
        Tensor::cat(vec![first, second], 2).reshape([rows, columns])
    }

    fn attention(&self, q: &Matrix, k: &Matrix, v: &Matrix, shape: &Heads) -> [Matrix; 2] {
        let parts = shape.spans.iter().map(|span| {
            let (queries, keys) = (span.queries.len(), span.keys.len());
            let q = self.split(q, &span.queries, shape.queries, shape.size);
            let [k, v] = [k, v].map(|m| self.split(m, &span.keys, shape.keys, shape.size));
            let scores = self.scores(&q, &k, shape, span);
            let max = scores.clone().max_dim(2);
            let lse = (scores.clone() - max.clone()).exp().sum_dim(2).log() + max;
            let probabilities = (scores - lse.clone()).exp();
            let grouped = probabilities.reshape([shape.keys, shape.group() * queries, keys]);
            let out = grouped.matmul(v).reshape([shape.queries, queries, shape.size]);
            (self.join(out), self.join(lse))
        });
        let (out, lse): (Vec<_>, Vec<_>) = parts.unzip();
        [Tensor::cat(out, 0), Tensor::cat(lse, 0)]
    }

    fn attention_backward(
        &self,
        dout: &Matrix,
        [q, k, v]: [&Matrix; 3],
        out: &Matrix,
        lse: &Matrix,
        shape: &Heads,
    ) -> [Matrix; 3] {
        let (mut dqs, mut dks, mut dvs) = (Vec::new(), Vec::new(), Vec::new());
        for span in &shape.spans {
            let (queries, keys) = (span.queries.len(), span.keys.len());
            let [q, out, dout] = [q, out, dout].map(|m| self.split(m, &span.queries, shape.queries, shape.size));
            let [k, v] = [k, v].map(|m| self.split(m, &span.keys, shape.keys, shape.size));
            let lse = self.split(lse, &span.queries, shape.queries, 1);
            let probabilities = (self.scores(&q, &k, shape, span) - lse).exp();
            let along = (dout.clone() * out).sum_dim(2);
            // The heads of a group one below the other, which adds them up in the products over queries.
            let [grouped_q, grouped_dout] =
                [q, dout].map(|m| m.reshape([shape.keys, shape.group() * queries, shape.size]));
            let dp = grouped_dout.clone().matmul(v.swap_dims(1, 2)).reshape([shape.queries, queries, keys]);
            let ds = probabilities.clone() * (dp - along) * shape.scale();
            let [ds, probabilities] =
                [ds, probabilities].map(|m| m.reshape([shape.keys, shape.group() * queries, keys]));
            let dq = ds.clone().matmul(k).reshape([shape.queries, queries, shape.size]);
            dqs.push(self.join(dq));
            dks.push(self.join(ds.swap_dims(1, 2).matmul(grouped_q)));
            dvs.push(self.join(probabilities.swap_dims(1, 2).matmul(grouped_dout)));
        }
        [dqs, dks, dvs].map(|parts| Tensor::cat(parts, 0))
    }

    fn swiglu(&self, gate: &Matrix, up: &Matrix) -> Matrix {
        gate.clone() * sigmoid(gate) * up.clone()
    }

    fn swiglu_backward(&self, dy: &Matrix, gate: &Matrix, up: &Matrix) -> [Matrix; 2] {
        let sigmoid = sigmoid(gate);
        let dup = dy.clone() * gate.clone() * sigmoid.clone();
        let slope = gate.clone() * (sigmoid.clone().neg() + 1.0) + 1.0;
        [dy.clone() * up.clone() * sigmoid * slope, dup]
    }

    fn cross_entropy(&self, x: &Matrix, head: &Matrix, targets: &[u32], scale: Option<f32>) -> (f64, Option<Matrix>) {
        let ([words, width], rows) = (head.dims(), (LOGITS / head.dims()[0]).max(16));
        let (mut loss, mut gradients) = (0.0, Vec::new());
        for (i, targets) in targets.chunks(rows).enumerate() {
            let count = targets.len();
            let x = x.clone().slice([i * rows..i * rows + count, 0..width]);
            let logs = activation::log_softmax(x.matmul(head.clone().transpose()), 1);
            let indices = self.indices(targets);
            let chosen = logs.clone().gather(1, indices.clone().reshape([count, 1]));
            loss -= self.numbers(&chosen).iter().map(|log| *log as f64).sum::<f64>();
            if let Some(scale) = scale {
                debug_assert_eq!(logs.dims(), [count, words]);
                gradients.push((logs.exp().matmul(head.clone()) - head.clone().select(0, indices)) * scale);
            }
        }
        (loss, scale.map(|_| Tensor::cat(gradients, 0)))
    }
}
