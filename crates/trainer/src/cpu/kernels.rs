//! Row-wise operations, each one pass over memory, split over threads and left to the compiler to vectorise.

use pulp::Arch;
use rayon::prelude::*;

use super::Matrix;
use super::gemm::{Element, Target};
use crate::engine::Angles;

/// Numbers that one task works on: enough to outweigh its start, few enough for the second-level cache.
const GRAIN: usize = 1 << 14;

/// Rows in a task's share of a matrix with `columns` numbers a row.
fn share(columns: usize) -> usize {
    (GRAIN / columns.max(1)).max(1) * columns
}

/// e^x to 2 units in the last place: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes' coefficients).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which then sits in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let p = p * r * r + r + 1.0;
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// Sum of products in 32 lanes, so that it vectorises and rounds less than a running sum.
#[inline(always)]
pub fn dot<B: Element>(a: &[f32], b: &[B]) -> f32 {
    let mut lanes = [0.0f32; 32];
    let (a, a_rest) = a.as_chunks::<32>();
    let (b, b_rest) = b.as_chunks::<32>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..32 {
            lanes[i] += a[i] * b[i].widen();
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b.widen()).sum();
    lanes.iter().sum::<f32>() + rest
}

pub fn copy_rows<T: Element>(from: &[T], columns: usize, rows: &[u32], out: &mut [f32]) {
    for (out, &row) in out.chunks_exact_mut(columns).zip(rows) {
        for (out, from) in out.iter_mut().zip(&from[row as usize * columns..][..columns]) {
            *out = from.widen();
        }
    }
}

pub fn add(a: &mut [f32], b: &[f32]) {
    let arch = Arch::new();
    a.par_chunks_mut(GRAIN).zip(b.par_chunks(GRAIN)).for_each(|(a, b)| {
        arch.dispatch(|| {
            for (a, b) in a.iter_mut().zip(b) {
                *a += b;
            }
        })
    });
}

/// x·bᵀ for a few rows x: `b` holds a row for each column of the result.
pub fn rows_times_transposed<B: Element>(x: &Matrix, b: &[B], target: Target) {
    let arch = Arch::new();
    for (row, out) in x.data.chunks_exact(x.columns).zip(target.data.chunks_mut(target.stride)) {
        let count = (GRAIN / x.columns).max(1);
        out.par_chunks_mut(count).zip(b.par_chunks(count * x.columns)).for_each(|(out, b)| {
            arch.dispatch(|| {
                for (out, b) in out.iter_mut().zip(b.chunks_exact(x.columns)) {
                    let value = dot(row, b);
                    *out = if target.add { *out + value } else { value };
                }
            })
        });
    }
}

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let (arch, n) = (Arch::new(), weight.len());
    y.par_chunks_mut(share(n)).zip(x.par_chunks(share(n))).for_each(|(y, x)| {
        arch.dispatch(|| {
            for (y, x) in y.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
                let inverse = inverse_rms(x, eps);
                for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                    *y = x * inverse * w;
                }
            }
        })
    });
}

/// dx = r·(w·dy) − x · r³/n · Σ(w·dy·x), with r the inverse root mean square.
pub fn rms_norm_backward(dy: &[f32], x: &[f32], weight: &[f32], eps: f32, dx: &mut [f32]) {
    let (arch, n) = (Arch::new(), weight.len());
    let rows = dx.par_chunks_mut(share(n)).zip(x.par_chunks(share(n))).zip(dy.par_chunks(share(n)));
    rows.for_each(|((dx, x), dy)| {
        arch.dispatch(|| {
            for ((dx, x), dy) in dx.chunks_exact_mut(n).zip(x.chunks_exact(n)).zip(dy.chunks_exact(n)) {
                let inverse = inverse_rms(x, eps);
                for ((dx, dy), w) in dx.iter_mut().zip(dy).zip(weight) {
                    *dx = dy * w;
                }
                let along = dot(dx, x) * inverse * inverse * inverse / n as f32;
                for (dx, x) in dx.iter_mut().zip(x) {
                    *dx = *dx * inverse - x * along;
                }
            }
        })
    });
}

pub fn rope(x: &mut [f32], columns: usize, angles: &Angles, inverse: bool) {
    let (arch, half, sign) = (Arch::new(), angles.half, if inverse { -1.0 } else { 1.0 });
    let rows = share(columns) / columns;
    let angles = angles.cos.par_chunks(rows * half).zip(angles.sin.par_chunks(rows * half));
    x.par_chunks_mut(rows * columns).zip(angles).for_each(|(x, (cos, sin))| {
        arch.dispatch(|| {
            let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
            for (row, (cos, sin)) in x.chunks_exact_mut(columns).zip(angles) {
                for head in row.chunks_exact_mut(2 * half) {
                    let (a, b) = head.split_at_mut(half);
                    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                        let sin = sin * sign;
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            }
        })
    });
}

pub fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    let arch = Arch::new();
    y.par_chunks_mut(GRAIN).zip(gate.par_chunks(GRAIN)).zip(up.par_chunks(GRAIN)).for_each(|((y, gate), up)| {
        arch.dispatch(|| {
            for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                *y = g / (1.0 + exp(-g)) * u;
            }
        })
    });
}

/// With σ the logistic function: dup = dy·g·σ(g), dgate = dy·u·σ(g)·(1 + g·(1 − σ(g))).
pub fn swiglu_backward(dy: &[f32], gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    let arch = Arch::new();
    let inputs = dy.par_chunks(GRAIN).zip(gate.par_chunks(GRAIN)).zip(up.par_chunks(GRAIN));
    let outputs = dgate.par_chunks_mut(GRAIN).zip(dup.par_chunks_mut(GRAIN));
    outputs.zip(inputs).for_each(|((dgate, dup), ((dy, gate), up))| {
        arch.dispatch(|| {
            let inputs = dy.iter().zip(gate).zip(up);
            for ((dgate, dup), ((dy, g), u)) in dgate.iter_mut().zip(dup).zip(inputs) {
                let sigmoid = 1.0 / (1.0 + exp(-g));
                *dup = dy * g * sigmoid;
                *dgate = dy * u * sigmoid * (1.0 + g * (1.0 - sigmoid));
            }
        })
    });
}

/// Turns a row of logits into e^(logit − max) and gives max and the sum.
#[inline(always)]
pub fn exponentials(row: &mut [f32]) -> (f32, f32) {
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in row.chunks(16) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    let max = lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0f32; 16];
    for chunk in row.chunks_mut(16) {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *value = exp(*value - max);
            *sum += *value;
        }
    }
    (max, sums.iter().sum())
}

/// Sum of −log softmax at the targets; the logits become `scale` × its gradient.
pub fn cross_entropy(logits: &mut [f32], words: usize, targets: &[u32], scale: f32) -> f64 {
    let arch = Arch::new();
    let rows = logits.par_chunks_exact_mut(words).zip(targets);
    let losses: Vec<f64> = rows
        .map(|(row, &target)| {
            arch.dispatch(|| {
                let logit = row[target as usize];
                let (max, sum) = exponentials(row);
                let factor = scale / sum;
                row.iter_mut().for_each(|value| *value *= factor);
                row[target as usize] -= scale;
                (sum as f64).ln() + (max - logit) as f64
            })
        })
        .collect();
    losses.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn exp_is_exact_to_two_units_in_the_last_place() {
        for i in -86_000..88_000 {
            let x = i as f32 / 1000.0;
            let exact = (x as f64).exp();
            let error = (exp(x) as f64 / exact - 1.0).abs();
            assert!(error < 2.0 * f32::EPSILON as f64, "exp({x}): relative error {error}");
        }
    }
}
