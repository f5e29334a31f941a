//! RGB as brightness and two differences of colour, a strip of blocks at a time.

use super::transform::Arithmetic;
use crate::image::shape::{ImageShape, Layout};

/// As many rows as a block is high, in three planes: brightness, and what blue and red differ from it.
pub(super) struct Strip {
    /// Columns, whole blocks.
    width: usize,
    planes: [Vec<f32>; 3],
    rgb: [Vec<u8>; 3],
}

pub(super) const HEIGHT: usize = 8;

impl Strip {
    pub fn new(image: ImageShape) -> Self {
        let width = image.width.next_multiple_of(8);
        Self {
            width,
            planes: std::array::from_fn(|_| vec![0.0; width * HEIGHT]),
            rgb: std::array::from_fn(|_| vec![0; width]),
        }
    }

    /// Blocks beside each other.
    pub fn blocks(&self) -> usize {
        self.width / 8
    }

    #[inline(always)]
    pub fn block<A: Arithmetic>(&self, plane: usize, column: usize) -> [A::Row; 8] {
        let samples = &self.planes[plane][column * 8..];
        let mut block = [A::row(&[0.0; 8]); 8];
        for (row, out) in samples.chunks(self.width).zip(&mut block) {
            let row = row.first_chunk().expect("a strip has whole blocks");
            *out = A::row(row);
        }
        block
    }

    /// Take the strip of this index from the image; what lies beyond its edges repeats them.
    #[inline(always)]
    pub fn fill(&mut self, pixels: &[u8], image: ImageShape, index: usize) {
        for line in 0..HEIGHT {
            let row = (index * HEIGHT + line).min(image.height - 1);
            self.split(pixels, image, row);
            self.convert(line);
        }
    }

    #[inline(always)]
    fn split(&mut self, pixels: &[u8], image: ImageShape, row: usize) {
        let ImageShape { height, width, .. } = image;
        match image.layout {
            Layout::Hwc => {
                let row = &pixels[row * width * 3..][..width * 3];
                let [red, green, blue] = &mut self.rgb;
                let colours = red.iter_mut().zip(green).zip(blue);
                for (((red, green), blue), pixel) in colours.zip(row.chunks_exact(3)) {
                    (*red, *green, *blue) = (pixel[0], pixel[1], pixel[2]);
                }
            }
            Layout::Chw => {
                for (colour, plane) in self.rgb.iter_mut().zip(pixels.chunks_exact(height * width))
                {
                    colour[..width].copy_from_slice(&plane[row * width..][..width]);
                }
            }
        }
        for colour in &mut self.rgb {
            let last = colour[width - 1];
            colour[width..].fill(last);
        }
    }

    /// JFIF's matrix, less the 128 around which everything is coded.
    #[inline(always)]
    fn convert(&mut self, line: usize) {
        let [red, green, blue] = &self.rgb;
        let rgb = red.iter().zip(green).zip(blue);
        let [brightness, blues, reds] = self
            .planes
            .each_mut()
            .map(|plane| &mut plane[line * self.width..][..self.width]);
        let out = brightness.iter_mut().zip(blues).zip(reds);
        for (((red, green), blue), ((brightness, blue_out), red_out)) in rgb.zip(out) {
            let (red, green, blue) = (f32::from(*red), f32::from(*green), f32::from(*blue));
            *brightness = 0.299 * red + 0.587 * green + 0.114 * blue - 128.0;
            *blue_out = -0.168_736 * red - 0.331_264 * green + 0.5 * blue;
            *red_out = 0.5 * red - 0.418_688 * green - 0.081_312 * blue;
        }
    }
}
