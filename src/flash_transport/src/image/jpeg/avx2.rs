//! Blocks in vectors of 256 bits.

use std::arch::x86_64::*;

use super::transform::{Arithmetic, Frequencies};

/// Its functions are for functions that are compiled for AVX2 and FMA, into which they vanish.
pub(super) struct Avx2;

impl Arithmetic for Avx2 {
    type Row = __m256;

    #[inline(always)]
    fn row(samples: &[f32; 8]) -> Self::Row {
        // SAFETY: eight floats are as long as a vector.
        unsafe { _mm256_loadu_ps(samples.as_ptr()) }
    }

    #[inline(always)]
    fn sum(one: Self::Row, other: Self::Row) -> Self::Row {
        // SAFETY: of registers only, as in all that follow.
        unsafe { _mm256_add_ps(one, other) }
    }

    #[inline(always)]
    fn difference(one: Self::Row, other: Self::Row) -> Self::Row {
        unsafe { _mm256_sub_ps(one, other) }
    }

    #[inline(always)]
    fn product(row: Self::Row, factor: f32) -> Self::Row {
        unsafe { _mm256_mul_ps(row, _mm256_set1_ps(factor)) }
    }

    #[inline(always)]
    fn plus_product(sum: Self::Row, row: Self::Row, factor: f32) -> Self::Row {
        unsafe { _mm256_fmadd_ps(row, _mm256_set1_ps(factor), sum) }
    }

    #[inline(always)]
    fn transposed([r0, r1, r2, r3, r4, r5, r6, r7]: [Self::Row; 8]) -> [Self::Row; 8] {
        unsafe {
            let (a0, a1) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
            let (a2, a3) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
            let (a4, a5) = (_mm256_unpacklo_ps(r4, r5), _mm256_unpackhi_ps(r4, r5));
            let (a6, a7) = (_mm256_unpacklo_ps(r6, r7), _mm256_unpackhi_ps(r6, r7));
            let (b0, b1) = (
                _mm256_shuffle_ps::<0x44>(a0, a2),
                _mm256_shuffle_ps::<0xee>(a0, a2),
            );
            let (b2, b3) = (
                _mm256_shuffle_ps::<0x44>(a1, a3),
                _mm256_shuffle_ps::<0xee>(a1, a3),
            );
            let (b4, b5) = (
                _mm256_shuffle_ps::<0x44>(a4, a6),
                _mm256_shuffle_ps::<0xee>(a4, a6),
            );
            let (b6, b7) = (
                _mm256_shuffle_ps::<0x44>(a5, a7),
                _mm256_shuffle_ps::<0xee>(a5, a7),
            );
            [
                _mm256_permute2f128_ps::<0x20>(b0, b4),
                _mm256_permute2f128_ps::<0x20>(b1, b5),
                _mm256_permute2f128_ps::<0x20>(b2, b6),
                _mm256_permute2f128_ps::<0x20>(b3, b7),
                _mm256_permute2f128_ps::<0x31>(b0, b4),
                _mm256_permute2f128_ps::<0x31>(b1, b5),
                _mm256_permute2f128_ps::<0x31>(b2, b6),
                _mm256_permute2f128_ps::<0x31>(b3, b7),
            ]
        }
    }

    #[inline(always)]
    fn rounded(rows: [Self::Row; 8]) -> Frequencies {
        let mut levels = [[0; 8]; 8];
        let mut present = 0;
        for (index, out) in levels.chunks_exact_mut(2).enumerate() {
            // SAFETY: two rows of eight levels are as long as a vector.
            unsafe {
                let upper = _mm256_cvtps_epi32(rows[index * 2]);
                let lower = _mm256_cvtps_epi32(rows[index * 2 + 1]);
                let words = _mm256_packs_epi32(upper, lower);
                // which has a half of each row in either half
                let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
                _mm256_storeu_si256(out.as_mut_ptr().cast(), words);
                let zeros = _mm256_cmpeq_epi16(words, _mm256_setzero_si256());
                let bytes = _mm_packs_epi16(
                    _mm256_castsi256_si128(zeros),
                    _mm256_extracti128_si256::<1>(zeros),
                );
                let bits = !_mm_movemask_epi8(bytes) as u16;
                present |= u64::from(bits) << (index * 16);
            }
        }
        Frequencies { levels, present }
    }
}
