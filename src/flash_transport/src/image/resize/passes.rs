//! The two passes over bytes, and their plain Rust form.

use super::weights::Weights;

/// Rows that are resized at once, because they share their weights.
pub(super) const ROWS: usize = 4;

/// Bytes that may be read or written behind a row.
pub(super) const SLACK: usize = 32;

/// The two passes over bytes. The result is the same on all processors.
pub(super) trait Passes: Copy {
    /// The weighted sum of consecutive rows in `samples`, at most [`MOST_ROWS_IN_16_BITS`] of them.
    fn vertical(self, samples: &[u8], weights: &[u16], out: &mut [u8]);

    /// Make four rows narrower or wider. They have all pixels up to `reach`, and `SLACK` bytes
    /// behind.
    fn horizontal<const CHANNELS: usize>(
        self,
        rows: [&[u8]; ROWS],
        weights: &Horizontal,
        out: [&mut [u8]; ROWS],
    );
}

/// Weights of columns; `2^shift` is one.
pub(super) struct Horizontal {
    pub weights: Weights<i16>,
    pub shift: u32,
}

impl Horizontal {
    pub fn new(size: usize, new_size: usize) -> Self {
        let shares = Weights::shares(size, new_size);
        // as precise as weights of 16 bits and sums of 32 bits allow
        let shift = (f64::from(i16::MAX) / shares.largest()).log2().min(22.0) as u32;
        let one = f64::from(1_u32 << shift);
        Self {
            weights: shares.map(|share| (share * one).round() as i16),
            shift,
        }
    }
}

/// Plain Rust, for every processor.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Passes for Plain {
    fn vertical(self, samples: &[u8], weights: &[u16], out: &mut [u8]) {
        let length = out.len();
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            // in 256ths of a level
            let mut sums = [first_sum(weights); BLOCK];
            for (row, weight) in samples.chunks_exact(length).zip(weights) {
                for (sum, sample) in sums.iter_mut().zip(&row[block * BLOCK..][..out.len()]) {
                    *sum += ((u32::from(*sample) * u32::from(*weight)) >> 8) as u16;
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = (sum >> 8) as u8;
            }
        }
    }

    fn horizontal<const CHANNELS: usize>(
        self,
        rows: [&[u8]; ROWS],
        Horizontal { weights, shift }: &Horizontal,
        mut out: [&mut [u8]; ROWS],
    ) {
        let half = 1_i32 << (shift - 1);
        for new in 0..weights.len() {
            let (start, weights) = weights.window(new);
            for (row, out) in rows.iter().zip(&mut out) {
                let window = &row[start * CHANNELS..][..weights.len() * CHANNELS];
                let mut sums = [half; CHANNELS];
                for (old, weight) in window.chunks_exact(CHANNELS).zip(weights) {
                    for channel in 0..CHANNELS {
                        sums[channel] += i32::from(old[channel]) * i32::from(*weight);
                    }
                }
                for (sum, sample) in sums.into_iter().zip(&mut out[new * CHANNELS..]) {
                    *sample = (sum >> shift).min(255) as u8;
                }
            }
        }
    }
}

/// Columns whose sums stay in registers.
const BLOCK: usize = 32;

/// Half a level, because the result is truncated, and half a 256th for each truncated product.
#[inline(always)]
pub(super) fn first_sum(weights: &[u16]) -> u16 {
    128 + weights.len() as u16 / 2
}

/// With more rows, 16 bits overflow, and the error of truncation becomes visible.
pub(super) const MOST_ROWS_IN_16_BITS: usize = 64;
