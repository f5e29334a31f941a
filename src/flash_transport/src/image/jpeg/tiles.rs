//! RGB to luma and chroma (YCbCr), two neighbouring blocks at a time.

use super::arithmetic::Arithmetic;
use crate::image::shape::{ImageShape, Layout};

/// A tile is two blocks.
pub(super) const WIDTH: usize = 16;
pub(super) const HEIGHT: usize = 8;

#[derive(Clone, Copy)]
pub(super) struct Tiles<'a> {
    pub pixels: &'a [u8],
    pub image: ImageShape,
}

impl Tiles<'_> {
    /// Fill `planes` with Y, Cb and Cr of the tile that begins at this row and column, in quarters.
    /// Beyond its edges the image is continued by its last row and column.
    #[inline(always)]
    pub fn fill<A: Arithmetic>(self, planes: &mut [[A::Row; HEIGHT]; 3], top: usize, left: usize) {
        for line in 0..HEIGHT {
            let row = (top + line).min(self.image.height - 1);
            let colours = converted::<A>(self.colours::<A>(row, left));
            for (plane, colour) in planes.iter_mut().zip(colours) {
                plane[line] = colour;
            }
        }
    }

    #[inline(always)]
    fn colours<A: Arithmetic>(self, row: usize, left: usize) -> [A::Row; 3] {
        let ImageShape { height, width, .. } = self.image;
        let (start, end) = (row * width + left, (row + 1) * width);
        match self.image.layout {
            Layout::Hwc => {
                let row = &self.pixels.as_chunks().0[start..end];
                match row.first_chunk() {
                    Some(pixels) => A::interleaved(pixels),
                    None => A::interleaved(&prolonged(row)),
                }
            }
            Layout::Chw => {
                let mut colours = [A::all(0); 3];
                for (index, colour) in colours.iter_mut().enumerate() {
                    let row = &self.pixels[index * height * width..][start..end];
                    *colour = match row.first_chunk() {
                        Some(samples) => A::plane(samples),
                        None => A::plane(&prolonged(row)),
                    };
                }
                colours
            }
        }
    }
}

/// The rest of a row, with its last pixel repeated.
#[cold]
#[inline(never)]
fn prolonged<T: Copy>(rest: &[T]) -> [T; WIDTH] {
    std::array::from_fn(|column| rest[column.min(rest.len() - 1)])
}

/// The YCbCr matrix of JFIF, minus 128: JPEG codes values around zero.
#[inline(always)]
fn converted<A: Arithmetic>([red, green, blue]: [A::Row; 3]) -> [A::Row; 3] {
    // 0.299, 0.587 and 0.114 in 2^-16; their sum is one
    let brightness = A::sum(
        A::sum(A::share(red, 19_595), A::share(green, 38_470)),
        // three truncated products lose half a 256th each; rounding to a quarter adds half of one
        A::sum(A::share(blue, 7_471), A::all(33)),
    );
    let grey = A::without_bits::<2>(brightness);
    let (red, blue) = (A::without_bits::<2>(red), A::without_bits::<2>(blue));
    [
        A::difference(A::without_bits::<6>(brightness), A::all(128 << 2)),
        // from 64ths to quarters: 0.5 / (1 - 0.114) and 0.5 / (1 - 0.299), in 2^-11
        A::product(A::difference(blue, grey), 1_156),
        A::product(A::difference(red, grey), 1_461),
    ]
}
