//! `sensor_msgs/Image` to RGB. One table: a new encoding is an entry and, if need be, a function.

use super::error::{ImageError, MAX_SIDE};

/// An image as a camera driver publishes it; its data is as long as the rest says.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    encoding: &'static Encoding,
    data: &'a [u8],
    height: usize,
    width: usize,
    /// Bytes from the start of a row to the start of the next.
    step: usize,
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
        let row_bytes = (encoding.row_bytes)(width);
        if (info.step as usize) < row_bytes {
            return Err(ImageError::ShortStep {
                step: info.step,
                expected: row_bytes as u64,
                width: info.width,
                encoding: encoding.name,
            });
        }
        // some drivers leave out the padding of the last row
        let rows = (encoding.data_rows)(height) as u64;
        let expected = (rows - 1) * u64::from(info.step) + row_bytes as u64;
        if (data.len() as u64) < expected {
            return Err(ImageError::ShortData {
                got: data.len(),
                expected,
                height: info.height,
                step: info.step,
            });
        }
        Ok(Self {
            encoding,
            data,
            height,
            width,
            step: info.step as usize,
        })
    }

    /// Rows, columns and colours of the image in RGB.
    pub fn rgb_shape(&self) -> [usize; 3] {
        [self.height, self.width, 3]
    }

    /// Write the image to `out`, which is as long as `rgb_shape` says.
    pub fn write_rgb(&self, out: &mut [u8]) {
        assert_eq!(out.len(), self.height * self.width * 3);
        (self.encoding.write_rgb)(self, out);
    }
}

/// Names of what [`Frame::new`] takes.
pub fn encodings() -> impl Iterator<Item = &'static str> {
    ENCODINGS.iter().map(|encoding| encoding.name)
}

#[derive(Debug)]
struct Encoding {
    name: &'static str,
    /// Bytes that a row of this many columns needs; the rest of a step is padding.
    row_bytes: fn(width: usize) -> usize,
    /// Rows of data that an image of this many rows needs; formats with a plane for colour have more.
    data_rows: fn(height: usize) -> usize,
    write_rgb: fn(&Frame<'_>, &mut [u8]),
}

static ENCODINGS: [Encoding; 5] = [
    packed::<3>("rgb8", |frame, out| {
        rows::<3>(frame, out, |row, out| out.copy_from_slice(row))
    }),
    packed::<3>("bgr8", |frame, out| {
        pixels(frame, out, |[b, g, r]| [r, g, b])
    }),
    packed::<4>("rgba8", |frame, out| {
        pixels(frame, out, |[r, g, b, _]| [r, g, b])
    }),
    packed::<4>("bgra8", |frame, out| {
        pixels(frame, out, |[b, g, r, _]| [r, g, b])
    }),
    packed::<1>("mono8", |frame, out| pixels(frame, out, |[y]| [y; 3])),
];

/// An encoding of `N` bytes for each pixel, and nothing shared between pixels.
const fn packed<const N: usize>(
    name: &'static str,
    write_rgb: fn(&Frame<'_>, &mut [u8]),
) -> Encoding {
    Encoding {
        name,
        row_bytes: |width| width * N,
        data_rows: |height| height,
        write_rgb,
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

fn pixels<const N: usize>(frame: &Frame<'_>, out: &mut [u8], rgb: impl Fn([u8; N]) -> [u8; 3]) {
    rows::<N>(frame, out, |row, out| {
        for (pixel, out) in row.chunks_exact(N).zip(out.chunks_exact_mut(3)) {
            let mut bytes = [0; N];
            bytes.copy_from_slice(pixel);
            out.copy_from_slice(&rgb(bytes));
        }
    });
}

fn rows<const N: usize>(frame: &Frame<'_>, out: &mut [u8], convert: impl Fn(&[u8], &mut [u8])) {
    let row_bytes = frame.width * N;
    for (row, out) in frame
        .data
        .chunks(frame.step)
        .zip(out.chunks_exact_mut(frame.width * 3))
    {
        convert(&row[..row_bytes], out);
    }
}
