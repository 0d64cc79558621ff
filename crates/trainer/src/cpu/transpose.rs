//! Transposing small squares in registers: what packing a weight along its rows spends its time on.

use pulp::Arch;
#[cfg(target_arch = "x86_64")]
use pulp::x86::V4;

use super::gemm::Element;

/// Side of a square.
pub const SIDE: usize = 16;

/// Transposes squares the fastest way that this CPU has.
#[derive(Clone, Copy)]
pub struct Transposer {
    #[cfg(target_arch = "x86_64")]
    v4: Option<V4>,
}

impl Transposer {
    pub fn new(arch: Arch) -> Self {
        #[cfg(target_arch = "x86_64")]
        return Self { v4: if let Arch::V4(v4) = arch { Some(v4) } else { None } };
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = arch;
            Self {}
        }
    }

    /// `to[p · width + i] = from[i · stride + p]` for i and p below [`SIDE`].
    #[inline(always)]
    pub fn square<T: Element>(self, from: &[T], stride: usize, to: &mut [f32], width: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Some(v4) = self.v4 {
            return square_512(v4, from, stride, to, width);
        }
        for i in 0..SIDE {
            for p in 0..SIDE {
                to[p * width + i] = from[i * stride + p].widen();
            }
        }
    }
}

/// In 64 shuffles: pairs within lanes, pairs of pairs within lanes, then whole lanes.
///
/// Loops instead of closures, which the compiler would not compile for this instruction set.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn square_512<T: Element>(v4: V4, from: &[T], stride: usize, to: &mut [f32], width: usize) {
    let simd = v4.avx512f;
    let zero = simd._mm512_setzero_ps();
    let mut rows = [zero; SIDE];
    for (i, row) in rows.iter_mut().enumerate() {
        let mut wide = [0.0f32; SIDE];
        for (wide, from) in wide.iter_mut().zip(&from[i * stride..][..SIDE]) {
            *wide = from.widen();
        }
        *row = pulp::cast(wide);
    }
    let mut pairs = [zero; SIDE];
    for i in 0..SIDE / 2 {
        pairs[2 * i] = simd._mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = simd._mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    // Lane l of fours[4g + c] holds column 4l + c of rows 4g to 4g + 3.
    let mut fours = [zero; SIDE];
    for g in 0..SIDE / 4 {
        for c in 0..2 {
            let (a, b) = (pairs[4 * g + c], pairs[4 * g + c + 2]);
            fours[4 * g + 2 * c] = simd._mm512_shuffle_ps::<0x44>(a, b);
            fours[4 * g + 2 * c + 1] = simd._mm512_shuffle_ps::<0xee>(a, b);
        }
    }
    for c in 0..SIDE / 4 {
        let even = simd._mm512_shuffle_f32x4::<0x88>(fours[c], fours[4 + c]);
        let odd = simd._mm512_shuffle_f32x4::<0xdd>(fours[c], fours[4 + c]);
        let even_below = simd._mm512_shuffle_f32x4::<0x88>(fours[8 + c], fours[12 + c]);
        let odd_below = simd._mm512_shuffle_f32x4::<0xdd>(fours[8 + c], fours[12 + c]);
        let columns = [
            simd._mm512_shuffle_f32x4::<0x88>(even, even_below),
            simd._mm512_shuffle_f32x4::<0x88>(odd, odd_below),
            simd._mm512_shuffle_f32x4::<0xdd>(even, even_below),
            simd._mm512_shuffle_f32x4::<0xdd>(odd, odd_below),
        ];
        for (lane, column) in columns.into_iter().enumerate() {
            let column: [f32; SIDE] = pulp::cast(column);
            to[(4 * lane + c) * width..][..SIDE].copy_from_slice(&column);
        }
    }
}
