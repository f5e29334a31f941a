//! RGB as brightness and two differences of colour, a strip of blocks at a time.

use crate::image::shape::{ImageShape, Layout};

/// Samples of a block, by rows, around zero.
pub(super) type Block = [[f32; 8]; 8];

/// As many rows as one coding unit is high: a block of brightness, or two by two that share their colour.
pub(super) struct Strip {
    share: usize,
    /// Columns of brightness, whole units.
    width: usize,
    brightness: Vec<f32>,
    blue: Vec<f32>,
    red: Vec<f32>,
    rgb: [Vec<u8>; 3],
    /// Differences of colour of each pixel of a row.
    row: [Vec<f32>; 2],
}

impl Strip {
    pub fn new(image: ImageShape, share: usize) -> Self {
        let width = image.width.next_multiple_of(8 * share);
        let colours = || vec![0.0; width / share * 8];
        Self {
            share,
            width,
            brightness: vec![0.0; width * 8 * share],
            blue: colours(),
            red: colours(),
            rgb: std::array::from_fn(|_| vec![0; width]),
            row: std::array::from_fn(|_| vec![0.0; width]),
        }
    }

    pub fn height(&self) -> usize {
        8 * self.share
    }

    pub fn units(&self) -> usize {
        self.width / (8 * self.share)
    }

    /// Row and column of the blocks of a unit, in the order in which they are coded.
    #[inline(always)]
    pub fn brightness_blocks(&self, unit: usize) -> impl Iterator<Item = (usize, usize)> {
        let share = self.share;
        (0..share * share).map(move |index| (index / share, unit * share + index % share))
    }

    #[inline(always)]
    pub fn brightness(&self, row: usize, column: usize) -> Block {
        block(&self.brightness[row * 8 * self.width..], self.width, column)
    }

    #[inline(always)]
    pub fn blue_difference(&self, unit: usize) -> Block {
        block(&self.blue, self.width / self.share, unit)
    }

    #[inline(always)]
    pub fn red_difference(&self, unit: usize) -> Block {
        block(&self.red, self.width / self.share, unit)
    }

    /// Take the strip of this index from the image; what lies beyond its edges repeats them.
    #[inline(always)]
    pub fn fill(&mut self, pixels: &[u8], image: ImageShape, index: usize) {
        self.blue.fill(0.0);
        self.red.fill(0.0);
        for line in 0..self.height() {
            let row = (index * self.height() + line).min(image.height - 1);
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
        let [blue_row, red_row] = &mut self.row;
        let brightness = &mut self.brightness[line * self.width..][..self.width];
        let rgb = red.iter().zip(green).zip(blue);
        let out = brightness
            .iter_mut()
            .zip(blue_row.iter_mut())
            .zip(red_row.iter_mut());
        for (((red, green), blue), ((brightness, blue_out), red_out)) in rgb.zip(out) {
            let (red, green, blue) = (f32::from(*red), f32::from(*green), f32::from(*blue));
            *brightness = 0.299 * red + 0.587 * green + 0.114 * blue - 128.0;
            *blue_out = -0.168_736 * red - 0.331_264 * green + 0.5 * blue;
            *red_out = 0.5 * red - 0.418_688 * green - 0.081_312 * blue;
        }
        let columns = self.width / self.share;
        let start = line / self.share * columns;
        for (row, out) in [(&*blue_row, &mut self.blue), (&*red_row, &mut self.red)] {
            let out = &mut out[start..start + columns];
            if self.share == 1 {
                out.copy_from_slice(row);
                continue;
            }
            for (pair, out) in row.chunks_exact(2).zip(out) {
                *out += (pair[0] + pair[1]) * 0.25;
            }
        }
    }
}

#[inline(always)]
fn block(samples: &[f32], width: usize, column: usize) -> Block {
    let mut block = [[0.0; 8]; 8];
    for (row, out) in samples.chunks_exact(width).zip(&mut block) {
        out.copy_from_slice(&row[column * 8..column * 8 + 8]);
    }
    block
}
