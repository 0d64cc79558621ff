//! Matrices in main memory, whose memory is used again: fresh pages cost as much as the arithmetic of a small operation.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::gemm::View;

/// Rows of f32, one after the other.
#[derive(Debug, Default)]
pub struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub data: Vec<f32>,
}

impl Matrix {
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { rows, columns, data: vec![0.0; rows * columns] }
    }

    /// With unspecified content, for results that are written in full.
    pub fn unfilled(rows: usize, columns: usize) -> Self {
        Self { rows, columns, data: spare::take(rows * columns) }
    }

    /// Unfilled, of the same shape.
    pub fn like(&self) -> Self {
        Self::unfilled(self.rows, self.columns)
    }

    pub fn view(&self) -> View<'_, f32> {
        View::new(&self.data, self.rows, self.columns)
    }

    /// Puts rows at the end.
    pub fn append(&mut self, other: &Self) {
        self.columns = other.columns;
        self.rows += other.rows;
        self.data.extend_from_slice(&other.data);
    }
}

impl Clone for Matrix {
    fn clone(&self) -> Self {
        let mut clone = self.like();
        clone.data.copy_from_slice(&self.data);
        clone
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        spare::put(std::mem::take(&mut self.data));
    }
}

/// Memory of dropped matrices.
mod spare {
    use super::*;

    /// Floats held at most (256 MiB).
    const MOST: usize = 64 << 20;
    /// Floats below which the allocator is quick enough (64 KiB).
    const LEAST: usize = 16 << 10;

    struct Spare {
        /// Oldest first.
        buffers: VecDeque<Vec<f32>>,
        total: usize,
    }

    static SPARE: Mutex<Spare> = Mutex::new(Spare { buffers: VecDeque::new(), total: 0 });

    pub fn take(len: usize) -> Vec<f32> {
        let found = (len >= LEAST).then(|| {
            let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = |buffer: &Vec<f32>| (len..=len + len / 4).contains(&buffer.capacity());
            let at = spare.buffers.iter().rposition(fits)?;
            let buffer = spare.buffers.remove(at)?;
            spare.total -= buffer.capacity();
            Some(buffer)
        });
        let mut buffer = found.flatten().unwrap_or_default();
        if buffer.capacity() == 0 {
            return vec![0.0; len];
        }
        buffer.resize(len, 0.0);
        buffer
    }

    pub fn put(buffer: Vec<f32>) {
        if !(LEAST..=MOST).contains(&buffer.capacity()) {
            return;
        }
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        spare.total += buffer.capacity();
        spare.buffers.push_back(buffer);
        while spare.total > MOST
            && let Some(oldest) = spare.buffers.pop_front()
        {
            spare.total -= oldest.capacity();
        }
    }
}
