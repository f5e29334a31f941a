//! Encodings in which each pixel has samples of its own.

use super::samples::Samples;
use super::vectors::Convert;

/// Picks red, green and blue from pixels of `N` bytes, by their positions in the pixel.
pub(super) struct Pick<const N: usize, const R: usize, const G: usize, const B: usize>;

impl<const N: usize, const R: usize, const G: usize, const B: usize> Convert for Pick<N, R, G, B> {
    #[inline(always)]
    fn write_rgb(samples: &Samples<'_>, out: &mut [u8]) {
        for (row, out) in samples.rows().zip(out.chunks_exact_mut(samples.width * 3)) {
            let row = &row[..samples.width * N];
            if (N, R, G, B) == (3, 0, 1, 2) {
                out.copy_from_slice(row);
                continue;
            }
            for (pixel, out) in row.chunks_exact(N).zip(out.chunks_exact_mut(3)) {
                out.copy_from_slice(&[pixel[R], pixel[G], pixel[B]]);
            }
        }
    }
}

/// The same for pixels of `N` samples of two bytes.
pub(super) struct Pick16<const N: usize, const R: usize, const G: usize, const B: usize>;

impl<const N: usize, const R: usize, const G: usize, const B: usize> Convert
    for Pick16<N, R, G, B>
{
    #[inline(always)]
    fn write_rgb(samples: &Samples<'_>, out: &mut [u8]) {
        if samples.big_endian {
            pick16::<N, R, G, B>(samples, out, u16::from_be_bytes);
        } else {
            pick16::<N, R, G, B>(samples, out, u16::from_le_bytes);
        }
    }
}

#[inline(always)]
fn pick16<const N: usize, const R: usize, const G: usize, const B: usize>(
    samples: &Samples<'_>,
    out: &mut [u8],
    sample: impl Fn([u8; 2]) -> u16,
) {
    for (row, out) in samples.rows().zip(out.chunks_exact_mut(samples.width * 3)) {
        let row = &row[..samples.width * N * 2];
        for (pixel, out) in row.chunks_exact(N * 2).zip(out.chunks_exact_mut(3)) {
            let level = |at: usize| nearest_level(sample([pixel[at * 2], pixel[at * 2 + 1]]));
            out.copy_from_slice(&[level(R), level(G), level(B)]);
        }
    }
}

/// Scales 65535 to 255, as cv_bridge does. 65535 is 257 times 255.
#[inline(always)]
pub(super) fn nearest_level(sample: u16) -> u8 {
    ((u32::from(sample) + 128) / 257) as u8
}
