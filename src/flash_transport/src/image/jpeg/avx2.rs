//! Two blocks in vectors of 256 bits, one in each half.

use std::arch::x86_64::*;

use super::arithmetic::{Arithmetic, Pair, ZIGZAG};
use super::cosine::Numbers;

/// Its functions are inlined into functions that are compiled for AVX2.
pub(super) struct Avx2;

impl Numbers for Avx2 {
    type Row = __m256i;

    #[inline(always)]
    fn sum(one: Self::Row, other: Self::Row) -> Self::Row {
        // SAFETY: uses registers only.
        unsafe { _mm256_add_epi16(one, other) }
    }

    #[inline(always)]
    fn difference(one: Self::Row, other: Self::Row) -> Self::Row {
        // SAFETY: uses registers only.
        unsafe { _mm256_sub_epi16(one, other) }
    }

    #[inline(always)]
    fn product(row: Self::Row, factor: i16) -> Self::Row {
        // SAFETY: uses registers only.
        unsafe { _mm256_mulhrs_epi16(row, _mm256_set1_epi16(factor)) }
    }
}

impl Arithmetic for Avx2 {
    #[inline(always)]
    fn row(numbers: &[i16; 16]) -> Self::Row {
        // SAFETY: sixteen numbers of 16 bits fill a vector.
        unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) }
    }

    #[inline(always)]
    fn all(number: i16) -> Self::Row {
        // SAFETY: uses registers only.
        unsafe { _mm256_set1_epi16(number) }
    }

    #[inline(always)]
    fn interleaved(pixels: &[[u8; 3]; 16]) -> [Self::Row; 3] {
        // SAFETY: there are 48 bytes; the last read is of the last 16.
        unsafe {
            let pixels = pixels.as_ptr().cast::<u8>();
            let start = load_two(pixels, pixels.add(24));
            let end = load_two(pixels.add(8), pixels.add(32));
            let mut colours = [_mm256_setzero_si256(); 3];
            for (colour, [first, last]) in colours.iter_mut().zip(&COLOURS) {
                *colour = _mm256_or_si256(
                    _mm256_shuffle_epi8(start, twice(first)),
                    _mm256_shuffle_epi8(end, twice(last)),
                );
            }
            colours
        }
    }

    #[inline(always)]
    fn plane(samples: &[u8; 16]) -> Self::Row {
        // SAFETY: there are 16 bytes.
        unsafe {
            let samples = _mm_loadu_si128(samples.as_ptr().cast());
            _mm256_slli_epi16::<8>(_mm256_cvtepu8_epi16(samples))
        }
    }

    #[inline(always)]
    fn share(row: Self::Row, factor: u16) -> Self::Row {
        // SAFETY: uses registers only.
        unsafe { _mm256_mulhi_epu16(row, _mm256_set1_epi16(factor as i16)) }
    }

    #[inline(always)]
    fn without_bits<const BITS: i32>(row: Self::Row) -> Self::Row {
        // SAFETY: uses registers only.
        unsafe { _mm256_srli_epi16::<BITS>(row) }
    }

    #[inline(always)]
    fn transposed([r0, r1, r2, r3, r4, r5, r6, r7]: [Self::Row; 8]) -> [Self::Row; 8] {
        // SAFETY: uses registers only.
        unsafe {
            let (a0, a1) = (_mm256_unpacklo_epi16(r0, r1), _mm256_unpackhi_epi16(r0, r1));
            let (a2, a3) = (_mm256_unpacklo_epi16(r2, r3), _mm256_unpackhi_epi16(r2, r3));
            let (a4, a5) = (_mm256_unpacklo_epi16(r4, r5), _mm256_unpackhi_epi16(r4, r5));
            let (a6, a7) = (_mm256_unpacklo_epi16(r6, r7), _mm256_unpackhi_epi16(r6, r7));
            let (b0, b1) = (_mm256_unpacklo_epi32(a0, a2), _mm256_unpackhi_epi32(a0, a2));
            let (b2, b3) = (_mm256_unpacklo_epi32(a1, a3), _mm256_unpackhi_epi32(a1, a3));
            let (b4, b5) = (_mm256_unpacklo_epi32(a4, a6), _mm256_unpackhi_epi32(a4, a6));
            let (b6, b7) = (_mm256_unpacklo_epi32(a5, a7), _mm256_unpackhi_epi32(a5, a7));
            [
                _mm256_unpacklo_epi64(b0, b4),
                _mm256_unpackhi_epi64(b0, b4),
                _mm256_unpacklo_epi64(b1, b5),
                _mm256_unpackhi_epi64(b1, b5),
                _mm256_unpacklo_epi64(b2, b6),
                _mm256_unpackhi_epi64(b2, b6),
                _mm256_unpacklo_epi64(b3, b7),
                _mm256_unpackhi_epi64(b3, b7),
            ]
        }
    }

    #[inline(always)]
    fn quotient(row: Self::Row, rounding: Self::Row, factor: i16, shift: u32) -> Self::Row {
        // SAFETY: uses registers only.
        unsafe {
            let size = _mm256_add_epi16(_mm256_abs_epi16(row), rounding);
            let quotient = Self::product(_mm256_srli_epi16::<1>(size), factor);
            let quotient = _mm256_srl_epi16(quotient, _mm_cvtsi32_si128(shift as i32));
            _mm256_sign_epi16(quotient, row)
        }
    }

    #[inline(always)]
    fn store(rows: [Self::Row; 8], pair: &mut Pair) {
        for (row, out) in rows.iter().zip(pair.levels.as_chunks_mut::<16>().0) {
            // SAFETY: sixteen levels fill a vector.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), *row) };
        }
        pair.places = [0; 2];
        // SAFETY: uses registers only.
        unsafe {
            // saturates, so that only zero becomes zero
            let bytes = [
                _mm256_packs_epi16(rows[0], rows[1]),
                _mm256_packs_epi16(rows[2], rows[3]),
                _mm256_packs_epi16(rows[4], rows[5]),
                _mm256_packs_epi16(rows[6], rows[7]),
            ];
            for (quarter, shuffles) in PLACES.iter().enumerate() {
                let mut ordered = _mm256_setzero_si256();
                for (bytes, shuffle) in bytes.iter().zip(shuffles) {
                    let placed = _mm256_shuffle_epi8(*bytes, twice(shuffle));
                    ordered = _mm256_or_si256(ordered, placed);
                }
                let zeros = _mm256_cmpeq_epi8(ordered, _mm256_setzero_si256());
                let present = !_mm256_movemask_epi8(zeros) as u32;
                pair.places[0] |= u64::from(present & 0xffff) << (quarter * 16);
                pair.places[1] |= u64::from(present >> 16) << (quarter * 16);
            }
        }
    }
}

/// # Safety
/// There are 16 bytes at both pointers, and the processor has AVX2.
#[inline(always)]
unsafe fn load_two(first: *const u8, second: *const u8) -> __m256i {
    // SAFETY: the caller guarantees it.
    unsafe {
        let first = _mm_loadu_si128(first.cast());
        let second = _mm_loadu_si128(second.cast());
        _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(first), second)
    }
}

/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn twice(half: &[i8; 16]) -> __m256i {
    // SAFETY: sixteen bytes fill half a vector.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(half.as_ptr().cast())) }
}

/// Shuffles that move each colour of eight pixels into upper bytes of 16 bits, from the first and
/// from the last sixteen bytes of the pixels.
const COLOURS: [[[i8; 16]; 2]; 3] = {
    let mut shuffles = [[[NOTHING; 16]; 2]; 3];
    let mut at = 0;
    while at < 24 {
        let (colour, upper) = (at % 3, at / 3 * 2 + 1);
        if at < 16 {
            shuffles[colour][0][upper] = at as i8;
        } else {
            shuffles[colour][1][upper] = at as i8 - 8;
        }
        at += 1;
    }
    shuffles
};

/// Shuffles into zigzag order: for each quarter of the result, from each quarter of the rows.
const PLACES: [[[i8; 16]; 4]; 4] = {
    let mut shuffles = [[[NOTHING; 16]; 4]; 4];
    let mut place = 0;
    while place < 64 {
        let at = ZIGZAG[place] as usize;
        shuffles[place / 16][at / 16][place % 16] = (at % 16) as i8;
        place += 1;
    }
    shuffles
};

/// An index for which a shuffle writes zero.
const NOTHING: i8 = -1;
