//! Bytes, in two passes with bytes between them, as in Pillow, but with the vertical pass first: it
//! is the faster one and leaves fewer rows to the other. Intermediate rounding therefore differs:
//! one of ten samples is off by one level, none by two.
//!
//! Four rows at a time go through both passes, so that they stay in the fastest cache.

use std::cell::Cell;
use std::rc::Rc;

use super::passes::{Horizontal, Passes, Plain, MOST_ROWS_IN_16_BITS, ROWS, SLACK};
use super::weights::Weights;
use super::Size;

/// Resize `samples` into the window of `out` that begins at its first sample; `stride` is from row
/// to row.
pub(super) fn resize<const CHANNELS: usize>(
    samples: &[u8],
    size: Size,
    out: &mut [u8],
    new_size: Size,
    stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(passes) = super::avx2::Avx2::detected() {
        return resize_with::<_, CHANNELS>(passes, samples, size, out, new_size, stride);
    }
    resize_with::<_, CHANNELS>(Plain, samples, size, out, new_size, stride);
}

pub(super) fn resize_with<P: Passes, const CHANNELS: usize>(
    passes: P,
    samples: &[u8],
    size: Size,
    out: &mut [u8],
    new_size: Size,
    stride: usize,
) {
    let mut scratch = SCRATCH.take();
    let (weights, heights) = scratch.weights(size, new_size);
    let (wide, narrow) = (size.width * CHANNELS, new_size.width * CHANNELS);
    let wide_row = weights.weights.reach().max(size.width) * CHANNELS + SLACK;
    let narrow_row = narrow + SLACK;
    scratch.wide.resize(wide_row * ROWS, 0);
    scratch.narrow.resize(narrow_row * ROWS, 0);
    let mut outs = out.chunks_mut(stride).take(new_size.height);
    for first in (0..new_size.height).step_by(ROWS) {
        let rows = scratch.wide.chunks_exact_mut(wide_row);
        for (new, row) in (first..new_size.height).zip(rows) {
            let (start, weights) = heights.window(new);
            // weights beyond the image are zero
            let last = weights.iter().rposition(|weight| *weight != 0);
            let weights = &weights[..last.map_or(1, |last| last + 1)];
            let samples = &samples[start * wide..][..weights.len() * wide];
            let row = &mut row[..wide];
            if weights.len() <= MOST_ROWS_IN_16_BITS {
                passes.vertical(samples, weights, row);
            } else {
                vertical_in_32_bits(samples, weights, row);
            }
        }
        passes.horizontal::<CHANNELS>(
            four(scratch.wide.chunks_exact(wide_row)),
            &weights,
            four(scratch.narrow.chunks_exact_mut(narrow_row)),
        );
        for (row, out) in scratch.narrow.chunks_exact(narrow_row).zip(&mut outs) {
            out[..narrow].copy_from_slice(&row[..narrow]);
        }
    }
    SCRATCH.set(scratch);
}

fn four<T>(mut rows: impl Iterator<Item = T>) -> [T; ROWS] {
    std::array::from_fn(|_| {
        rows.next()
            .expect("as many rows as the buffer was made for")
    })
}

/// Weights of rows; 2^16 is one.
type Vertical = Weights<u16>;

/// For images whose height shrinks to less than a thirtieth.
fn vertical_in_32_bits(samples: &[u8], weights: &[u16], out: &mut [u8]) {
    let length = out.len();
    let mut sums = vec![1 << 15; length];
    for (row, weight) in samples.chunks_exact(length).zip(weights) {
        for (sum, sample) in sums.iter_mut().zip(row) {
            *sum += u32::from(*sample) * u32::from(*weight);
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = (sum >> 16).min(255) as u8;
    }
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Buffers and weights that a thread keeps from one image to the next.
#[derive(Default)]
struct Scratch {
    wide: Vec<u8>,
    narrow: Vec<u8>,
    weights: Vec<Known>,
}

type Known = ((Size, Size), (Rc<Horizontal>, Rc<Vertical>));

/// Enough for a robot with eight different cameras.
const KEPT_WEIGHTS: usize = 8;

impl Scratch {
    fn weights(&mut self, size: Size, new_size: Size) -> (Rc<Horizontal>, Rc<Vertical>) {
        let key = (size, new_size);
        if let Some((_, weights)) = self.weights.iter().find(|(known, _)| *known == key) {
            return weights.clone();
        }
        if self.weights.len() == KEPT_WEIGHTS {
            self.weights.remove(0);
        }
        let vertical = Weights::shares(size.height, new_size.height);
        let weights = (
            Rc::new(Horizontal::new(size.width, new_size.width)),
            Rc::new(vertical.map(|share| (share * 65536.0).round() as u16)),
        );
        self.weights.push((key, weights.clone()));
        weights
    }
}
