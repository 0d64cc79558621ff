//! Causal attention by blocks of query rows: scores exist for one block and head at a time, and only up to the diagonal.
//!
//! Backward it recomputes the scores from q, k and the saved log-sum-exp (Dao 2022, FlashAttention), once by blocks of
//! queries for dq and once by blocks of keys for dk and dv, so that every task writes rows of its own.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::Matrix;
use super::gemm::{Target, View, product_here};
use super::kernels::{dot, exp, exponentials};
use crate::engine::{Heads, Span};

/// Rows of a block.
const BLOCK: usize = 64;

/// A piece of a span that one task works on: its rows, and the span they belong to.
struct Block<'a> {
    span: &'a Span,
    rows: Range<usize>,
}

/// Cuts the rows of all spans into blocks, and the output matrices into the same pieces.
fn blocks<'a, const N: usize>(
    shape: &'a Heads,
    rows_of: impl Fn(&Span) -> Range<usize>,
    outputs: [&'a mut Matrix; N],
) -> Vec<(Block<'a>, [&'a mut [f32]; N])> {
    let widths = outputs.each_ref().map(|m| m.columns);
    let mut rest = outputs.map(|m| m.data.as_mut_slice());
    let mut at = 0;
    let mut blocks = Vec::new();
    for span in &shape.spans {
        let rows = rows_of(span);
        assert_eq!(rows.start, at, "spans follow one another");
        at = rows.end;
        for start in rows.clone().step_by(BLOCK) {
            let rows = start..rows.end.min(start + BLOCK);
            let mut index = 0;
            let pieces = rest.each_mut().map(|rest| {
                let (piece, after) = std::mem::take(rest).split_at_mut(rows.len() * widths[index]);
                *rest = after;
                index += 1;
                piece
            });
            blocks.push((Block { span, rows }, pieces));
        }
    }
    blocks
}

/// One head of some rows of a matrix that holds several side by side.
fn head<'a>(m: &'a Matrix, rows: &Range<usize>, head: usize, size: usize) -> View<'a, f32> {
    View::strided(&m.data[rows.start * m.columns + head * size..], rows.len(), size, m.columns)
}

/// A head's part of a piece of an output.
fn part<'a>(piece: &'a mut [f32], head: usize, size: usize, heads: usize) -> Target<'a> {
    Target { data: &mut piece[head * size..], stride: heads * size, add: false }
}

impl Block<'_> {
    /// Key rows that the last of these query rows sees.
    fn seen(&self) -> Range<usize> {
        let hidden = self.span.queries.end - self.rows.end;
        self.span.keys.start..self.span.keys.end - hidden
    }

    /// How many of the `seen` keys the i-th of `count` query rows sees.
    fn visible(i: usize, count: usize, seen: usize) -> usize {
        seen - (count - 1 - i)
    }
}

pub fn forward(q: &Matrix, k: &Matrix, v: &Matrix, shape: &Heads) -> [Matrix; 2] {
    let mut out = Matrix::unfilled(q.rows, q.columns);
    let mut lse = Matrix::unfilled(q.rows, shape.queries);
    let (arch, size) = (Arch::new(), shape.size);
    blocks(shape, |span| span.queries.clone(), [&mut out, &mut lse]).into_par_iter().rev().for_each(
        |(block, [out, lse])| {
            let (count, keys) = (block.rows.len(), block.seen());
            let mut scores = vec![0.0; count * keys.len()];
            for h in 0..shape.queries {
                let (qh, kh) = (head(q, &block.rows, h, size), head(k, &keys, h / shape.group(), size));
                let target = Target { data: &mut scores, stride: keys.len(), add: false };
                product_here(shape.scale(), qh, kh.transposed(), target);
                for (i, row) in scores.chunks_exact_mut(keys.len()).enumerate() {
                    let (row, hidden) = row.split_at_mut(Block::visible(i, count, keys.len()));
                    hidden.fill(0.0);
                    arch.dispatch(|| {
                        let (max, sum) = exponentials(row);
                        row.iter_mut().for_each(|p| *p /= sum);
                        lse[i * shape.queries + h] = max + sum.ln();
                    });
                }
                let vh = head(v, &keys, h / shape.group(), size);
                product_here(1.0, View::new(&scores, count, keys.len()), vh, part(out, h, size, shape.queries));
            }
        },
    );
    [out, lse]
}

pub fn backward(dout: &Matrix, [q, k, v]: [&Matrix; 3], out: &Matrix, lse: &Matrix, shape: &Heads) -> [Matrix; 3] {
    let (arch, size) = (Arch::new(), shape.size);
    // Σ dout·out of each row and head: the part of the softmax's gradient that all scores of a row share.
    let mut along = Matrix::unfilled(q.rows, shape.queries);
    along.data.par_iter_mut().enumerate().with_min_len(1024).for_each(|(i, along)| {
        let at = i * size..(i + 1) * size;
        *along = arch.dispatch(|| dot(&dout.data[at.clone()], &out.data[at]));
    });
    let gradient = Gradient { arch, lse, along: &along, shape };

    let mut dq = Matrix::unfilled(q.rows, q.columns);
    blocks(shape, |span| span.queries.clone(), [&mut dq]).into_par_iter().rev().for_each(|(block, [dq])| {
        let (count, keys) = (block.rows.len(), block.seen());
        let (mut scores, mut ds) = (vec![0.0; count * keys.len()], vec![0.0; count * keys.len()]);
        for h in 0..shape.queries {
            let [kh, vh] = [k, v].map(|m| head(m, &keys, h / shape.group(), size));
            let [qh, doh] = [q, dout].map(|m| head(m, &block.rows, h, size));
            let stride = keys.len();
            product_here(shape.scale(), qh, kh.transposed(), Target { data: &mut scores, stride, add: false });
            product_here(1.0, doh, vh.transposed(), Target { data: &mut ds, stride, add: false });
            for i in 0..count {
                let row = i * stride..(i + 1) * stride;
                let visible = Block::visible(i, count, keys.len());
                gradient.row(block.rows.start + i, h, visible, &mut scores[row.clone()], &mut ds[row]);
            }
            product_here(shape.scale(), View::new(&ds, count, stride), kh, part(dq, h, size, shape.queries));
        }
    });

    let (mut dk, mut dv) = (Matrix::unfilled(k.rows, k.columns), Matrix::unfilled(v.rows, v.columns));
    blocks(shape, |span| span.keys.clone(), [&mut dk, &mut dv]).into_par_iter().for_each(|(block, [dk, dv])| {
        let keys = block.rows.clone();
        // Queries that see at least the first of these keys. Training has as many keys as queries in a span.
        let span = block.span;
        let ahead = span.keys.len() - span.queries.len();
        let first = (keys.start - span.keys.start).saturating_sub(ahead);
        let queries = span.queries.start + first..span.queries.end;
        let (count, stride) = (queries.len(), keys.len());
        let (mut scores, mut ds) = (vec![0.0; count * stride], vec![0.0; count * stride]);
        for h in 0..shape.queries {
            let [kh, vh] = [k, v].map(|m| head(m, &keys, h / shape.group(), size));
            let [qh, doh] = [q, dout].map(|m| head(m, &queries, h, size));
            product_here(shape.scale(), qh, kh.transposed(), Target { data: &mut scores, stride, add: false });
            product_here(1.0, doh, vh.transposed(), Target { data: &mut ds, stride, add: false });
            for (i, query) in queries.clone().enumerate() {
                let last = span.keys.start + ahead + (query - span.queries.start) + 1;
                let visible = last.saturating_sub(keys.start).min(stride);
                let row = i * stride..(i + 1) * stride;
                gradient.row(query, h, visible, &mut scores[row.clone()], &mut ds[row]);
            }
            // The heads of a group add up.
            let add = h % shape.group() > 0;
            let [scores, ds] = [&scores, &ds].map(|m| View::new(m, count, stride).transposed());
            let dk = Target { add, ..part(dk, h / shape.group(), size, shape.keys) };
            let dv = Target { add, ..part(dv, h / shape.group(), size, shape.keys) };
            product_here(shape.scale(), ds, qh, dk);
            product_here(1.0, scores, doh, dv);
        }
    });
    [dq, dk, dv]
}

/// What is needed to go back through the softmax.
struct Gradient<'a> {
    arch: Arch,
    lse: &'a Matrix,
    along: &'a Matrix,
    shape: &'a Heads,
}

impl Gradient<'_> {
    /// Turns scores into probabilities, and the gradient by the probabilities into that by the scores.
    fn row(&self, query: usize, head: usize, visible: usize, scores: &mut [f32], ds: &mut [f32]) {
        let at = query * self.shape.queries + head;
        let (lse, along) = (self.lse.data[at], self.along.data[at]);
        scores[visible..].fill(0.0);
        ds[visible..].fill(0.0);
        self.arch.dispatch(|| {
            for (p, d) in scores[..visible].iter_mut().zip(&mut ds[..visible]) {
                *p = exp(*p - lse);
                *d = *p * (*d - along);
            }
        });
    }
}
