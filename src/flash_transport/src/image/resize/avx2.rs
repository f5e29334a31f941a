//! The passes over bytes with AVX2, with the same result.

use std::arch::x86_64::*;

use super::passes::{first_sum, Horizontal, Passes, Plain, ROWS, SLACK};

/// Exists only on processors with AVX2.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub fn detected() -> Option<Self> {
        std::is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Passes for Avx2 {
    fn vertical(self, samples: &[u8], weights: &[u16], out: &mut [u8]) {
        let length = out.len();
        assert!(samples.len() >= weights.len() * length);
        let mut start = 0;
        while start + BLOCK <= length {
            // SAFETY: there is AVX2, since `self` exists, and the block lies in each row and in `out`.
            unsafe {
                let samples = samples.as_ptr().add(start);
                vertical_block(samples, length, weights, out.as_mut_ptr().add(start));
            }
            start += BLOCK;
        }
        for column in start..length {
            let mut sum = first_sum(weights);
            for (row, weight) in samples.chunks_exact(length).zip(weights) {
                sum += ((u32::from(row[column]) * u32::from(*weight)) >> 8) as u16;
            }
            out[column] = (sum >> 8) as u8;
        }
    }

    fn horizontal<const CHANNELS: usize>(
        self,
        rows: [&[u8]; ROWS],
        weights: &Horizontal,
        out: [&mut [u8]; ROWS],
    ) {
        if CHANNELS != 3 {
            return Plain.horizontal::<CHANNELS>(rows, weights, out);
        }
        let reach = weights.weights.reach() * 3 + SLACK;
        assert!(rows.iter().all(|row| row.len() >= reach));
        let end = weights.weights.len() * 3 + SLACK;
        assert!(out.iter().all(|row| row.len() >= end));
        // SAFETY: as above; the lengths of the rows and outs were just asserted.
        unsafe { horizontal_rgb(rows, weights, out) }
    }
}

/// Columns whose sums stay in registers.
const BLOCK: usize = 64;

/// # Safety
/// The processor has AVX2. `out` and each row, `length` apart, have `BLOCK` bytes.
#[target_feature(enable = "avx2")]
unsafe fn vertical_block(samples: *const u8, length: usize, weights: &[u16], out: *mut u8) {
    // SAFETY: the caller guarantees it.
    unsafe {
        let zero = _mm256_setzero_si256();
        let mut sums = [_mm256_set1_epi16(first_sum(weights) as i16); 4];
        for (row, weight) in weights.iter().enumerate() {
            let row = samples.add(row * length);
            let weight = _mm256_set1_epi16(*weight as i16);
            let near = _mm256_loadu_si256(row.cast());
            let far = _mm256_loadu_si256(row.add(BLOCK / 2).cast());
            // bytes in upper bytes of 16 bits; of the product only the upper half is kept
            add_part(&mut sums[0], _mm256_unpacklo_epi8(zero, near), weight);
            add_part(&mut sums[1], _mm256_unpackhi_epi8(zero, near), weight);
            add_part(&mut sums[2], _mm256_unpacklo_epi8(zero, far), weight);
            add_part(&mut sums[3], _mm256_unpackhi_epi8(zero, far), weight);
        }
        let levels = sums.map(|sum| _mm256_srli_epi16::<8>(sum));
        _mm256_storeu_si256(out.cast(), _mm256_packus_epi16(levels[0], levels[1]));
        let far = out.add(BLOCK / 2);
        _mm256_storeu_si256(far.cast(), _mm256_packus_epi16(levels[2], levels[3]));
    }
}

/// # Safety
/// The processor has AVX2. Rows have all pixels up to `reach` and `SLACK` bytes behind them, outs
/// one pixel for each window and `SLACK` bytes behind them.
#[target_feature(enable = "avx2")]
unsafe fn horizontal_rgb(
    rows: [&[u8]; ROWS],
    Horizontal { weights, shift }: &Horizontal,
    out: [&mut [u8]; ROWS],
) {
    let [row0, row1, row2, row3] = rows.map(<[u8]>::as_ptr);
    let [out0, out1, out2, out3] = out.map(<[u8]>::as_mut_ptr);
    // SAFETY: a window lies within reach; a read of 16 bytes at one of its pixels ends less than
    // `SLACK` behind it. So does a write of 4 bytes at a pixel of `out`; the next pixel overwrites
    // the fourth.
    unsafe {
        // the colours of two neighbouring pixels, in 16 bits each, with room for a fourth colour
        let near = twice(_mm_setr_epi8(
            0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
        ));
        let far = twice(_mm_setr_epi8(
            6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1,
        ));
        let half = _mm256_set1_epi32(1 << (shift - 1));
        let shift = _mm_cvtsi32_si128(*shift as i32);
        for new in 0..weights.len() {
            let (start, weights) = weights.window(new);
            let (mut above, mut below) = (half, half);
            let mut at = start * 3;
            let mut fours = weights.chunks_exact(4);
            for weights in &mut fours {
                let one = load_two(row0.add(at), row1.add(at));
                let other = load_two(row2.add(at), row3.add(at));
                let weight = pair(weights.as_ptr());
                add(&mut above, _mm256_shuffle_epi8(one, near), weight);
                add(&mut below, _mm256_shuffle_epi8(other, near), weight);
                let weight = pair(weights.as_ptr().add(2));
                add(&mut above, _mm256_shuffle_epi8(one, far), weight);
                add(&mut below, _mm256_shuffle_epi8(other, far), weight);
                at += 12;
            }
            if let [_, _] = fours.remainder() {
                let one = load_two(row0.add(at), row1.add(at));
                let other = load_two(row2.add(at), row3.add(at));
                let weight = pair(fours.remainder().as_ptr());
                add(&mut above, _mm256_shuffle_epi8(one, near), weight);
                add(&mut below, _mm256_shuffle_epi8(other, near), weight);
            }
            // four bytes each of the first, the third, the second and the fourth row
            let words = _mm256_packs_epi32(
                _mm256_sra_epi32(above, shift),
                _mm256_sra_epi32(below, shift),
            );
            let bytes = _mm256_packus_epi16(words, words);
            let (first, second) = (
                _mm256_castsi256_si128(bytes),
                _mm256_extracti128_si256::<1>(bytes),
            );
            let at = new * 3;
            out0.add(at)
                .cast::<i32>()
                .write_unaligned(_mm_cvtsi128_si32(first));
            out1.add(at)
                .cast::<i32>()
                .write_unaligned(_mm_cvtsi128_si32(second));
            out2.add(at)
                .cast::<i32>()
                .write_unaligned(_mm_extract_epi32::<1>(first));
            out3.add(at)
                .cast::<i32>()
                .write_unaligned(_mm_extract_epi32::<1>(second));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_part(sum: &mut __m256i, samples: __m256i, weight: __m256i) {
    *sum = _mm256_add_epi16(*sum, _mm256_mulhi_epu16(samples, weight));
}

/// Add pairs of neighbours, each times its weight.
#[inline]
#[target_feature(enable = "avx2")]
fn add(sum: &mut __m256i, samples: __m256i, weights: __m256i) {
    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(samples, weights));
}

/// Two weights, repeated for all pairs of samples.
///
/// # Safety
/// There are two weights at the pointer.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn pair(weights: *const i16) -> __m256i {
    // SAFETY: the caller guarantees it.
    unsafe { _mm256_set1_epi32(weights.cast::<i32>().read_unaligned()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn twice(half: __m128i) -> __m256i {
    _mm256_broadcastsi128_si256(half)
}

/// # Safety
/// There are 16 bytes at both pointers.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_two(first: *const u8, second: *const u8) -> __m256i {
    // SAFETY: the caller guarantees it.
    unsafe {
        let first = _mm_loadu_si128(first.cast());
        let second = _mm_loadu_si128(second.cast());
        _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(first), second)
    }
}
