//! Matrices in main memory, whose memory is used again: fresh pages cost as much as the arithmetic of a small operation.

use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Gives the memory of dropped matrices back to the system: the next sequences have other lengths.
pub fn forget_spare() {
    spare::clear();
}

/// Memory of dropped matrices.
mod spare {
    use super::*;

    /// Floats held at most (128 MiB).
    const MOST: usize = 32 << 20;
    /// Floats below which the allocator is quick enough (64 KiB).
    const LEAST: usize = 16 << 10;

    #[derive(Default)]
    struct Spare {
        buffers: Vec<Vec<f32>>,
        total: usize,
    }

    static SPARE: Mutex<Spare> = Mutex::new(Spare { buffers: Vec::new(), total: 0 });

    fn lock() -> MutexGuard<'static, Spare> {
        SPARE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn take(len: usize) -> Vec<f32> {
        let found = (len >= LEAST).then(|| {
            let mut spare = lock();
            let at = spare.buffers.iter().rposition(|buffer| buffer.len() == len)?;
            spare.total -= len;
            Some(spare.buffers.swap_remove(at))
        });
        found.flatten().unwrap_or_else(|| vec![0.0; len])
    }

    pub fn put(buffer: Vec<f32>) {
        if buffer.len() < LEAST {
            return;
        }
        let mut spare = lock();
        if spare.total + buffer.len() <= MOST {
            spare.total += buffer.len();
            spare.buffers.push(buffer);
        }
    }

    pub fn clear() {
        *lock() = Spare::default();
    }
}
