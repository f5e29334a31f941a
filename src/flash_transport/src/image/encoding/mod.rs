//! `sensor_msgs/Image` to RGB. One table: a new encoding is an entry and, if needed, a conversion.

mod bayer;
mod packed;
mod samples;
mod vectors;
mod yuv;

use super::error::{ImageError, MAX_SIDE};
use bayer::Bayer;
use packed::{Pick, Pick16};
use samples::Samples;
use vectors::{convert, Convert};
use yuv::{Packed422, SemiPlanar};

/// An image as a camera driver publishes it; the length of its data has been checked.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    encoding: &'static Encoding,
    samples: Samples<'a>,
}

/// What `sensor_msgs/Image` says about its data.
#[derive(Debug, Clone, Copy)]
pub struct FrameInfo<'a> {
    pub encoding: &'a str,
    pub height: u32,
    pub width: u32,
    /// Bytes from the start of a row to the start of the next.
    pub step: u32,
    /// Byte order of samples that have more than one byte.
    pub big_endian: bool,
}

impl<'a> Frame<'a> {
    pub fn new(data: &'a [u8], info: FrameInfo<'_>) -> Result<Self, ImageError> {
        let encoding = find(info.encoding)?;
        let (height, width) = (info.height as usize, info.width as usize);
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&height) || !sides.contains(&width) {
            return Err(ImageError::Size { height, width });
        }
        let row_bytes = encoding.layout.row_bytes(width);
        if (info.step as usize) < row_bytes {
            return Err(ImageError::ShortStep {
                step: info.step,
                expected: row_bytes as u64,
                width: info.width,
                encoding: encoding.name,
            });
        }
        // some drivers leave out the padding of the last row
        let rows = encoding.layout.rows(height) as u64;
        let expected = (rows - 1) * u64::from(info.step) + row_bytes as u64;
        if (data.len() as u64) < expected {
            return Err(ImageError::ShortData {
                got: data.len(),
                expected,
                rows,
                encoding: encoding.name,
                step: info.step,
            });
        }
        Ok(Self {
            encoding,
            samples: Samples {
                data,
                height,
                width,
                step: info.step as usize,
                big_endian: info.big_endian,
            },
        })
    }

    /// Rows, columns and colours of the image in RGB.
    pub fn rgb_shape(&self) -> [usize; 3] {
        [self.samples.height, self.samples.width, 3]
    }

    /// Write the image to `out`, whose length is the product of `rgb_shape`.
    pub fn write_rgb(&self, out: &mut [u8]) {
        assert_eq!(out.len(), self.samples.height * self.samples.width * 3);
        (self.encoding.write_rgb)(&self.samples, out);
    }

    #[cfg(test)]
    pub(super) fn write_rgb_without_vectors(&self, out: &mut [u8]) {
        (self.encoding.write_rgb_without_vectors)(&self.samples, out);
    }
}

/// Names of the encodings that [`Frame::new`] accepts.
pub fn encodings() -> impl Iterator<Item = &'static str> {
    ENCODINGS.iter().map(|encoding| encoding.name)
}

#[derive(Debug)]
struct Encoding {
    name: &'static str,
    layout: Layout,
    write_rgb: fn(&Samples<'_>, &mut [u8]),
    #[cfg(test)]
    write_rgb_without_vectors: fn(&Samples<'_>, &mut [u8]),
}

/// How pixels lie in the data. The rest of a row is padding.
#[derive(Debug, Clone, Copy)]
enum Layout {
    /// This many bytes for each pixel.
    Pixels(usize),
    /// Four bytes for two pixels; of the last pair of a row of odd width only the first pixel is
    /// used.
    Pairs,
    /// A plane of luma, then one of chroma with half as many rows, two bytes for two pixels.
    HalfPlane,
    /// A plane of luma, then one of chroma whose rows take two steps, two bytes for each pixel.
    FullPlane,
}

impl Layout {
    fn row_bytes(self, width: usize) -> usize {
        match self {
            Self::Pixels(bytes) => width * bytes,
            Self::Pairs => width.div_ceil(2) * 4,
            Self::HalfPlane => width.div_ceil(2) * 2,
            Self::FullPlane => width,
        }
    }

    /// Rows of `step` bytes, all planes together.
    fn rows(self, height: usize) -> usize {
        match self {
            Self::Pixels(_) | Self::Pairs => height,
            Self::HalfPlane => height + height.div_ceil(2),
            Self::FullPlane => height * 3,
        }
    }
}

/// The names and byte orders of `sensor_msgs/image_encodings.hpp`. `8UC3` and the like name no
/// colours; they are taken for OpenCV's order, blue first. 16-bit samples become the nearest 8-bit
/// ones, 65535 becomes 255.
static ENCODINGS: [Encoding; 30] = [
    pixels::<Pick<3, 0, 1, 2>>("rgb8", 3),
    pixels::<Pick<3, 2, 1, 0>>("bgr8", 3),
    pixels::<Pick<4, 0, 1, 2>>("rgba8", 4),
    pixels::<Pick<4, 2, 1, 0>>("bgra8", 4),
    pixels::<Pick<1, 0, 0, 0>>("mono8", 1),
    pixels::<Pick<1, 0, 0, 0>>("8UC1", 1),
    pixels::<Pick<3, 2, 1, 0>>("8UC3", 3),
    pixels::<Pick<4, 2, 1, 0>>("8UC4", 4),
    pixels::<Pick16<3, 0, 1, 2>>("rgb16", 6),
    pixels::<Pick16<3, 2, 1, 0>>("bgr16", 6),
    pixels::<Pick16<4, 0, 1, 2>>("rgba16", 8),
    pixels::<Pick16<4, 2, 1, 0>>("bgra16", 8),
    pixels::<Pick16<1, 0, 0, 0>>("mono16", 2),
    pixels::<Pick16<1, 0, 0, 0>>("16UC1", 2),
    pixels::<Pick16<3, 2, 1, 0>>("16UC3", 6),
    pixels::<Bayer<0, 0, 1>>("bayer_rggb8", 1),
    pixels::<Bayer<1, 1, 1>>("bayer_bggr8", 1),
    pixels::<Bayer<1, 0, 1>>("bayer_gbrg8", 1),
    pixels::<Bayer<0, 1, 1>>("bayer_grbg8", 1),
    pixels::<Bayer<0, 0, 2>>("bayer_rggb16", 2),
    pixels::<Bayer<1, 1, 2>>("bayer_bggr16", 2),
    pixels::<Bayer<1, 0, 2>>("bayer_gbrg16", 2),
    pixels::<Bayer<0, 1, 2>>("bayer_grbg16", 2),
    encoding::<Packed422<1, 0, 2>>("uyvy", Layout::Pairs),
    encoding::<Packed422<1, 0, 2>>("yuv422", Layout::Pairs),
    encoding::<Packed422<0, 1, 3>>("yuyv", Layout::Pairs),
    encoding::<Packed422<0, 1, 3>>("yuv422_yuy2", Layout::Pairs),
    encoding::<SemiPlanar<2, 0, 1>>("nv12", Layout::HalfPlane),
    encoding::<SemiPlanar<2, 1, 0>>("nv21", Layout::HalfPlane),
    encoding::<SemiPlanar<1, 0, 1>>("nv24", Layout::FullPlane),
];

const fn pixels<C: Convert>(name: &'static str, bytes: usize) -> Encoding {
    encoding::<C>(name, Layout::Pixels(bytes))
}

const fn encoding<C: Convert>(name: &'static str, layout: Layout) -> Encoding {
    Encoding {
        name,
        layout,
        write_rgb: convert::<C>,
        #[cfg(test)]
        write_rgb_without_vectors: C::write_rgb,
    }
}

fn find(name: &str) -> Result<&'static Encoding, ImageError> {
    ENCODINGS
        .iter()
        .find(|encoding| encoding.name == name)
        .ok_or_else(|| ImageError::UnknownEncoding {
            encoding: name.to_owned(),
            known: encodings().collect::<Vec<_>>().join(", "),
        })
}
