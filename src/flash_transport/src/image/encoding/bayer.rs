//! Bayer patterns: each pixel of the sensor has one colour; the others are interpolated bilinearly.

use super::packed::nearest_level;
use super::samples::Samples;
use super::vectors::{interleave, Convert};

/// Rows of red and green and rows of green and blue alternate; the first red sample is at `ROW` and
/// `COLUMN`, each 0 or 1. Samples have `BYTES` bytes.
pub(super) struct Bayer<const ROW: usize, const COLUMN: usize, const BYTES: usize>;

impl<const ROW: usize, const COLUMN: usize, const BYTES: usize> Convert
    for Bayer<ROW, COLUMN, BYTES>
{
    #[inline(always)]
    fn write_rgb(samples: &Samples<'_>, out: &mut [u8]) {
        let width = samples.width;
        let mut above = vec![0; width + 2];
        let mut here = vec![0; width + 2];
        let mut below = vec![0; width + 2];
        let [mut own, mut green, mut other] = [vec![0; width], vec![0; width], vec![0; width]];
        // the row above the first and the one below the last are mirrored, to keep the pattern
        let last = samples.height - 1;
        load::<BYTES>(samples, 1.min(last), &mut above);
        load::<BYTES>(samples, 0, &mut here);
        for (row, out) in out.chunks_exact_mut(width * 3).enumerate() {
            let next = if row < last {
                row + 1
            } else {
                last.saturating_sub(1)
            };
            load::<BYTES>(samples, next, &mut below);
            let has_red = row % 2 == ROW;
            // the first column of red in a row with red, of blue in a row with blue
            let first = if has_red { COLUMN } else { 1 - COLUMN };
            for column in 0..width {
                let (left, right) = (here[column], here[column + 2]);
                let (up, down) = (above[column + 1], below[column + 1]);
                let corners = [
                    above[column],
                    above[column + 2],
                    below[column],
                    below[column + 2],
                ];
                let middle = here[column + 1];
                let is_own = column % 2 == first;
                own[column] = if is_own { middle } else { mean2(left, right) };
                green[column] = if is_own {
                    mean4([left, right, up, down])
                } else {
                    middle
                };
                other[column] = if is_own {
                    mean4(corners)
                } else {
                    mean2(up, down)
                };
            }
            if has_red {
                interleave(&own, &green, &other, out);
            } else {
                interleave(&other, &green, &own, out);
            }
            std::mem::swap(&mut above, &mut here);
            std::mem::swap(&mut here, &mut below);
        }
    }
}

/// Copy a row to the middle of `line`, and mirror its second and its last but one sample to the
/// ends.
#[inline(always)]
fn load<const BYTES: usize>(image: &Samples<'_>, row: usize, line: &mut [u8]) {
    let width = image.width;
    let start = row * image.step;
    let row = &image.data[start..start + width * BYTES];
    let samples = &mut line[1..=width];
    if BYTES == 1 {
        samples.copy_from_slice(row);
    } else {
        for (sample, bytes) in samples.iter_mut().zip(row.chunks_exact(2)) {
            let pair = [bytes[0], bytes[1]];
            *sample = nearest_level(match image.big_endian {
                true => u16::from_be_bytes(pair),
                false => u16::from_le_bytes(pair),
            });
        }
    }
    line[0] = line[2.min(width)];
    line[width + 1] = line[width.saturating_sub(1).max(1)];
}

#[inline(always)]
fn mean2(one: u8, other: u8) -> u8 {
    ((u16::from(one) + u16::from(other) + 1) >> 1) as u8
}

#[inline(always)]
fn mean4(samples: [u8; 4]) -> u8 {
    let sum: u16 = samples.iter().map(|sample| u16::from(*sample)).sum();
    ((sum + 2) >> 2) as u8
}
