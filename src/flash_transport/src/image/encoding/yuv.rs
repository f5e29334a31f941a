//! Luma and chroma (YUV), as webcams and video decoders give them.
//!
//! ITU-R BT.601 with luma from 16 to 235, with the coefficients and the rounding of OpenCV's
//! `cvtColor`, which `cv_bridge` uses and therefore every recording made with it. A pixel takes the
//! chroma of its block; nothing is interpolated.

use super::samples::Samples;
use super::vectors::{interleave, Convert};

/// Two pixels in four bytes: luma at `Y` and `Y + 2`, the chroma of both at `U` and `V`.
pub(super) struct Packed422<const Y: usize, const U: usize, const V: usize>;

impl<const Y: usize, const U: usize, const V: usize> Convert for Packed422<Y, U, V> {
    #[inline(always)]
    fn write_rgb(samples: &Samples<'_>, out: &mut [u8]) {
        for (row, out) in samples.rows().zip(out.chunks_exact_mut(samples.width * 3)) {
            let row = &row[..samples.width.div_ceil(2) * 4];
            for (pairs, out) in row.chunks(BLOCK * 2).zip(out.chunks_mut(BLOCK * 3)) {
                let mut block = Block::new();
                for (index, pair) in pairs.chunks_exact(4).enumerate() {
                    for (pixel, y) in [Y, Y + 2].into_iter().enumerate() {
                        block.y[index * 2 + pixel] = pair[y];
                        block.u[index * 2 + pixel] = pair[U];
                        block.v[index * 2 + pixel] = pair[V];
                    }
                }
                block.write_rgb(out);
            }
        }
    }
}

/// A plane of luma and one of chroma, where `SHARE` columns (and rows) share two bytes, at `U` and
/// `V`.
pub(super) struct SemiPlanar<const SHARE: usize, const U: usize, const V: usize>;

impl<const SHARE: usize, const U: usize, const V: usize> Convert for SemiPlanar<SHARE, U, V> {
    #[inline(always)]
    fn write_rgb(samples: &Samples<'_>, out: &mut [u8]) {
        let (brightness, colour) = samples.data.split_at(samples.height * samples.step);
        let rows = brightness.chunks(samples.step);
        for (index, (row, out)) in rows
            .zip(out.chunks_exact_mut(samples.width * 3))
            .enumerate()
        {
            // a row of chroma has two bytes for `SHARE` pixels, and its padding is scaled likewise
            let start = index / SHARE * (samples.step * 2 / SHARE);
            let colour = &colour[start..start + samples.width.div_ceil(SHARE) * 2];
            let colours = colour.chunks(BLOCK / SHARE * 2);
            let blocks = row[..samples.width].chunks(BLOCK).zip(colours);
            for ((brightness, colour), out) in blocks.zip(out.chunks_mut(BLOCK * 3)) {
                let mut block = Block::new();
                block.y[..brightness.len()].copy_from_slice(brightness);
                for (index, pair) in colour.chunks_exact(2).enumerate() {
                    for pixel in 0..SHARE {
                        block.u[index * SHARE + pixel] = pair[U];
                        block.v[index * SHARE + pixel] = pair[V];
                    }
                }
                block.write_rgb(out);
            }
        }
    }
}

/// Pixels that are converted at once.
const BLOCK: usize = 64;

struct Block {
    y: [u8; BLOCK],
    u: [u8; BLOCK],
    v: [u8; BLOCK],
}

impl Block {
    #[inline(always)]
    fn new() -> Self {
        Self {
            y: [0; BLOCK],
            u: [0; BLOCK],
            v: [0; BLOCK],
        }
    }

    /// Write as many pixels as `out` has room for.
    #[inline(always)]
    fn write_rgb(&self, out: &mut [u8]) {
        let [mut red, mut green, mut blue] = [[0; BLOCK]; 3];
        for index in 0..BLOCK {
            let y = (i32::from(self.y[index]) - 16).max(0) * Y_GAIN + HALF;
            let u = i32::from(self.u[index]) - 128;
            let v = i32::from(self.v[index]) - 128;
            red[index] = level(y + V_TO_RED * v);
            green[index] = level(y + V_TO_GREEN * v + U_TO_GREEN * u);
            blue[index] = level(y + U_TO_BLUE * u);
        }
        interleave(&red, &green, &blue, out);
    }
}

#[inline(always)]
fn level(fixed: i32) -> u8 {
    (fixed >> BITS).clamp(0, 255) as u8
}

const BITS: u32 = 20;
const HALF: i32 = 1 << (BITS - 1);
const Y_GAIN: i32 = fixed(1.164);
const V_TO_RED: i32 = fixed(1.596);
const V_TO_GREEN: i32 = fixed(-0.813);
const U_TO_GREEN: i32 = fixed(-0.391);
const U_TO_BLUE: i32 = fixed(2.018);

const fn fixed(value: f64) -> i32 {
    (value * (1 << BITS) as f64) as i32
}
