//! Matrix products on the CPU: packed panels, a register-blocked kernel, threads over the rows of the result.
//!
//! The order in which a result's terms are added depends on the shapes only, so any number of threads gives the same
//! bits.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::transpose::{SIDE, Transposer};

/// Depth of a block: a strip of the left operand (`MR`×`DEPTH`) stays in the first-level cache.
const DEPTH: usize = 256;
/// Columns of a block: the right operand's block (`DEPTH`×`COLUMNS`) stays in the second-level cache.
const COLUMNS: usize = 512;
/// Floats of the packed right operand held at once (32 MiB).
const PACKED: usize = 8 << 20;
/// Multiply-adds below which threads cost more than they bring.
const PARALLEL: usize = 1 << 18;
/// SIMD vectors side by side in the kernel's tile.
const VECTORS: usize = 2;

/// A number of an operand, widened to f32 while it is packed.
pub trait Element: Copy + Send + Sync {
    fn widen(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

/// The upper half of an f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bf16(pub u16);

impl Element for Bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits((self.0 as u32) << 16)
    }
}

/// A matrix in somebody else's memory, transposed or a part of a wider one if the strides say so.
#[derive(Clone, Copy)]
pub struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> View<'a, T> {
    /// Rows one after the other.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows `row_stride` elements apart.
    pub fn strided(data: &'a [T], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || columns == 0 || data.len() >= (rows - 1) * row_stride + columns);
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The elements in the order in which they lie.
    pub fn data(&self) -> &'a [T] {
        self.data
    }

    pub fn is_transposed(&self) -> bool {
        self.column_stride != 1
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Where a product goes: rows `stride` apart, and what becomes of their old content.
pub struct Target<'a> {
    pub data: &'a mut [f32],
    pub stride: usize,
    pub add: bool,
}

/// `target = scale · a·b`, or `+=` where the target says so.
pub fn product<B: Element>(scale: f32, a: View<f32>, b: View<B>, target: Target) {
    products(scale, a, b, None, target);
}

/// `target = scale · (a·b + c·d)` with `(c, d)` in `more`: for a weight with its adapter, in one pass over the target.
pub fn products<B: Element>(
    scale: f32,
    a: View<f32>,
    b: View<B>,
    more: Option<(View<f32>, View<f32>)>,
    target: Target,
) {
    let threads = if a.rows * a.columns * b.columns < PARALLEL { 1 } else { rayon::current_num_threads() };
    run(scale, a, b, more, target, threads);
}

/// As [`product`], on the calling thread alone.
pub fn product_here<B: Element>(scale: f32, a: View<f32>, b: View<B>, target: Target) {
    run(scale, a, b, None, target, 1);
}

fn run<B: Element>(
    scale: f32,
    a: View<f32>,
    b: View<B>,
    more: Option<(View<f32>, View<f32>)>,
    target: Target,
    threads: usize,
) {
    let (c, d) = more.unwrap_or((View::new(&[], a.rows, 0), View::new(&[], 0, b.columns)));
    assert!(a.columns == b.rows && c.columns == d.rows && a.rows == c.rows && b.columns == d.columns);
    let (m, n, depths) = (a.rows, b.columns, [a.columns, c.columns]);
    let k = depths[0] + depths[1];
    if m == 0 || n == 0 {
        return;
    }
    let tile = Tile::new(n);
    let transposer = Transposer::new(tile.arch);
    let wide = (PACKED / k.max(1) / tile.columns * tile.columns).max(tile.columns);
    // Four chunks a thread, so that a thread that is held up does not hold up all.
    let chunk = if threads == 1 { m } else { m.div_ceil(4 * threads).next_multiple_of(tile.rows).max(2 * tile.rows) };
    let chunk = chunk.min(16 * tile.rows);
    for n0 in (0..n).step_by(wide) {
        let n1 = n.min(n0 + wide);
        let columns = (n1 - n0).next_multiple_of(tile.columns);
        let mut right = scratch::take(&scratch::RIGHT, columns * k);
        let mut rest = &mut right[..];
        for block in blocks(depths) {
            let (packed, after) = rest.split_at_mut(block.depth * columns);
            rest = after;
            let pack = |(j, panel): (usize, &mut [f32])| {
                let from = n0 + j * tile.columns;
                tile.arch.dispatch(PackRight { b, d, block, panel, width: tile.columns, from, to: n1, transposer });
            };
            match threads {
                1 => packed.chunks_exact_mut(block.depth * tile.columns).enumerate().for_each(pack),
                _ => packed.par_chunks_exact_mut(block.depth * tile.columns).enumerate().for_each(pack),
            }
        }
        let rows = |(i, out): (usize, &mut [f32])| {
            let (i0, i1) = (i * chunk, m.min((i + 1) * chunk));
            let mut left = scratch::take(&scratch::LEFT, (i1 - i0).next_multiple_of(tile.rows) * k);
            let out = Out { data: out, stride: target.stride, n0, n1, scale, add: target.add };
            let work = Product { a, c, i0, i1, left: &mut left, right: &right, columns, depths, out };
            tile.arch.dispatch(work);
            scratch::put(&scratch::LEFT, left);
        };
        let data = &mut target.data[..(m - 1) * target.stride + n];
        match threads {
            1 => data.chunks_mut(chunk * target.stride).enumerate().for_each(rows),
            _ => data.par_chunks_mut(chunk * target.stride).enumerate().for_each(rows),
        }
        scratch::put(&scratch::RIGHT, right);
    }
}

/// A stretch of the depth of one of the two terms.
#[derive(Clone, Copy)]
struct Block {
    second: bool,
    /// Where it starts in its term.
    from: usize,
    depth: usize,
    /// Depth of all blocks before.
    before: usize,
}

fn blocks([first, second]: [usize; 2]) -> impl Iterator<Item = Block> {
    let of = |second, total: usize, before| {
        let block = move |from| Block { second, from, depth: DEPTH.min(total - from), before: before + from };
        (0..total).step_by(DEPTH).map(block)
    };
    of(false, first, 0).chain(of(true, second, first))
}

/// Shape of the kernel's tile on this machine.
struct Tile {
    arch: Arch,
    rows: usize,
    columns: usize,
}

impl Tile {
    /// For results of `n` columns: a single vector side by side where more would be empty.
    fn new(n: usize) -> Self {
        struct Shape(usize);
        impl WithSimd for Shape {
            type Output = (usize, usize);
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> (usize, usize) {
                let vectors = if self.0 <= S::F32_LANES { 1 } else { VECTORS };
                (tile_rows::<S>(), vectors * S::F32_LANES)
            }
        }
        let arch = Arch::new();
        let (rows, columns) = arch.dispatch(Shape(n));
        Self { arch, rows, columns }
    }
}

/// Two accumulators a row, the loaded vectors and a broadcast have to fit the registers.
const fn tile_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 12 } else { 6 }
}

/// Copies a block of columns `from..to` of the right operands into a panel: `width` numbers for each step of depth.
struct PackRight<'a, 'b, B> {
    b: View<'a, B>,
    d: View<'a, f32>,
    block: Block,
    panel: &'b mut [f32],
    width: usize,
    from: usize,
    to: usize,
    transposer: Transposer,
}

impl<B: Element> WithSimd for PackRight<'_, '_, B> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { b, d, block, panel, width, from, to, transposer } = self;
        // Known when compiling, for the sake of the loops.
        let width = if width == S::F32_LANES { S::F32_LANES } else { VECTORS * S::F32_LANES };
        match block.second {
            false => pack(b.transposed(), from, to, block.from, panel, width, Some(transposer)),
            true => pack(d.transposed(), from, to, block.from, panel, width, Some(transposer)),
        }
    }
}

/// Packs rows `i0..i1` of `a` from column `p0` on: for each column the `width` rows' numbers side by side, missing rows
/// as 0.
#[inline(always)]
fn pack<T: Element>(
    a: View<T>,
    i0: usize,
    i1: usize,
    p0: usize,
    panel: &mut [f32],
    width: usize,
    transposer: Option<Transposer>,
) {
    let count = width.min(i1 - i0);
    if a.row_stride == 1 {
        for (p, out) in panel.chunks_exact_mut(width).enumerate() {
            let from = &a.data[(p0 + p) * a.column_stride + i0..][..count];
            for (out, from) in out.iter_mut().zip(from) {
                *out = from.widen();
            }
            out[count..].fill(0.0);
        }
        return;
    }
    assert_eq!(a.column_stride, 1, "a view is contiguous along rows or along columns");
    if count < width {
        panel.fill(0.0);
    }
    for (step, out) in panel.chunks_mut(SIDE * width).enumerate() {
        let depth = out.len() / width;
        let at = |i: usize| (i0 + i) * a.row_stride + p0 + step * SIDE;
        let mut done = 0;
        if let Some(transposer) = transposer
            && depth == SIDE
        {
            while done + SIDE <= count {
                transposer.square(&a.data[at(done)..], a.row_stride, &mut out[done..], width);
                done += SIDE;
            }
        }
        for i in done..count {
            for (out, from) in out.chunks_exact_mut(width).zip(&a.data[at(i)..][..depth]) {
                out[i] = from.widen();
            }
        }
    }
}

/// The rows of the result that one thread works on.
struct Out<'a> {
    data: &'a mut [f32],
    stride: usize,
    n0: usize,
    n1: usize,
    scale: f32,
    add: bool,
}

/// Rows `i0..i1` of a product, whose left operands are still to be packed.
struct Product<'a, 'b> {
    a: View<'a, f32>,
    c: View<'a, f32>,
    i0: usize,
    i1: usize,
    left: &'b mut [f32],
    right: &'b [f32],
    /// Packed columns of `right`.
    columns: usize,
    depths: [usize; 2],
    out: Out<'b>,
}

impl WithSimd for Product<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (tile_rows::<S>(), self.columns == S::F32_LANES) {
            (12, true) => self.run::<S, 12, 1>(simd),
            (12, false) => self.run::<S, 12, VECTORS>(simd),
            (_, true) => self.run::<S, 6, 1>(simd),
            (_, false) => self.run::<S, 6, VECTORS>(simd),
        }
    }
}

impl Product<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const WIDE: usize>(self, simd: S) {
        let Self { a, c, i0, i1, left, right, columns, depths, mut out } = self;
        let width = WIDE * S::F32_LANES;
        let rows = (i1 - i0).next_multiple_of(ROWS);
        for block in blocks(depths) {
            let packed = &mut left[block.before * rows..(block.before + block.depth) * rows];
            let term = if block.second { c } else { a };
            for (i, panel) in packed.chunks_exact_mut(block.depth * ROWS).enumerate() {
                pack(term, i0 + i * ROWS, i1, block.from, panel, ROWS, None);
            }
        }
        if depths == [0, 0] && !out.add {
            for row in 0..i1 - i0 {
                out.data[row * out.stride + out.n0..][..out.n1 - out.n0].fill(0.0);
            }
        }
        for j0 in (0..columns).step_by(COLUMNS) {
            let j1 = columns.min(j0 + COLUMNS);
            for Block { depth, before, .. } in blocks(depths) {
                let right = &right[before * columns + j0 * depth..before * columns + j1 * depth];
                let left = &left[before * rows..(before + depth) * rows];
                for (i, left) in left.chunks_exact(depth * ROWS).enumerate() {
                    for (j, right) in right.chunks_exact(depth * width).enumerate() {
                        let tile = kernel::<S, ROWS, WIDE>(simd, left, right);
                        out.store(simd, tile, i * ROWS, i1 - i0, j0 + j * width, before == 0);
                    }
                }
            }
        }
    }
}

/// The sum over depth of the outer products of a column of `left` and a row of `right`.
#[inline(always)]
fn kernel<S: Simd, const ROWS: usize, const WIDE: usize>(
    simd: S,
    left: &[f32],
    right: &[f32],
) -> [[S::f32s; WIDE]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); WIDE]; ROWS];
    let left = left.as_chunks::<ROWS>().0;
    let right = S::as_simd_f32s(right).0.as_chunks::<WIDE>().0;
    for (left, right) in left.iter().zip(right) {
        for (sums, left) in sums.iter_mut().zip(left) {
            let left = simd.splat_f32s(*left);
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_f32s(left, *right, *sum);
            }
        }
    }
    sums
}

impl Out<'_> {
    /// Puts a tile at (row, column), cut at the edges of the result.
    #[inline(always)]
    fn store<S: Simd, const ROWS: usize, const WIDE: usize>(
        &mut self,
        simd: S,
        tile: [[S::f32s; WIDE]; ROWS],
        row: usize,
        rows: usize,
        column: usize,
        first: bool,
    ) {
        let width = WIDE * S::F32_LANES;
        let column = self.n0 + column;
        let count = width.min(self.n1 - column);
        let add = self.add || !first;
        let scale = simd.splat_f32s(self.scale);
        for (i, tile) in tile.iter().enumerate() {
            if row + i >= rows {
                break;
            }
            let out = &mut self.data[(row + i) * self.stride + column..][..count];
            if count == width {
                for (out, tile) in S::as_mut_simd_f32s(out).0.iter_mut().zip(tile) {
                    *out = if add { simd.mul_add_f32s(*tile, scale, *out) } else { simd.mul_f32s(*tile, scale) };
                }
            } else {
                let mut edge = [0.0; 64];
                for (edge, tile) in S::as_mut_simd_f32s(&mut edge).0.iter_mut().zip(tile) {
                    *edge = simd.mul_f32s(*tile, scale);
                }
                for (out, edge) in out.iter_mut().zip(edge) {
                    *out = if add { *out + edge } else { edge };
                }
            }
        }
    }
}

/// Memory for packing, kept by each thread: fresh pages cost more than the copy into them.
mod scratch {
    use std::cell::Cell;
    use std::thread::LocalKey;

    thread_local! {
        pub static LEFT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
        pub static RIGHT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    }

    /// A thread that waits for its pool may start another product meanwhile, hence take and put instead of borrow.
    pub fn take(key: &'static LocalKey<Cell<Vec<f32>>>, len: usize) -> Vec<f32> {
        let mut scratch = key.take();
        scratch.resize(len, 0.0);
        scratch
    }

    pub fn put(key: &'static LocalKey<Cell<Vec<f32>>>, scratch: Vec<f32>) {
        key.set(scratch);
    }
}

#[cfg(test)]
mod tests;
