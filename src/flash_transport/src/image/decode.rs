//! JPEG and PNG to RGB. The data is untrusted: sizes are checked before memory is allocated.
//!
//! Pure Rust, for the same reason as the encoder. zune-jpeg decodes a whole image in the time of libjpeg-turbo;
//! jpeg-decoder is slower at that, but decodes to 1/2, 1/4 and 1/8 as fast as libjpeg-turbo, which zune-jpeg cannot.

use std::io::Cursor;
use std::panic::{catch_unwind, AssertUnwindSafe};

use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::encoding::{Frame, FrameInfo};
use super::error::{ImageError, MAX_SIDE};

/// Rows of pixels of three bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    pub height: usize,
    pub width: usize,
    pub pixels: Vec<u8>,
}

/// Decode a JPEG or a PNG, whichever it is.
///
/// With `at_least`, rows and columns, a larger JPEG may be decoded to a half, a quarter or an
/// eighth of its size, as long as fitting it into `at_least` does not enlarge it: nearly as good as
/// resizing it, in less time. An image of more than `limit` decoded bytes is refused.
pub fn decode_image(
    data: &[u8],
    at_least: Option<(usize, usize)>,
    limit: usize,
) -> Result<RgbImage, ImageError> {
    let (format, decode) = match data {
        [0xff, 0xd8, ..] => ("jpeg", decode_jpeg as Decode),
        [0x89, b'P', b'N', b'G', ..] => ("png", decode_png as Decode),
        _ => {
            let start = data[..data.len().min(4)].to_vec();
            let got = data.len();
            return Err(ImageError::UnknownFormat { got, start });
        }
    };
    let request = Request {
        data,
        at_least,
        limit,
    };
    // a decoder that panics on untrusted data must not end the process
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(&request)))
        .unwrap_or_else(|_| Err(Failure::Damaged("the decoder failed".to_owned())));
    decoded.map_err(|failure| match failure {
        Failure::Damaged(reason) => ImageError::Damaged {
            format,
            got: data.len(),
            reason,
        },
        Failure::TooLarge { height, width } => ImageError::TooLarge {
            format,
            height,
            width,
            decoded: rgb_bytes(height, width),
            limit,
        },
    })
}

/// Rows and columns of a JPEG or a PNG, read from its header alone; the rest may be damaged.
pub fn image_size(data: &[u8]) -> Result<(usize, usize), ImageError> {
    // the header of an image that is too large for the smallest limit is in the error
    match decode_image(data, None, 0) {
        Err(ImageError::TooLarge { height, width, .. }) => Ok((height, width)),
        Err(error) => Err(error),
        Ok(image) => Ok((image.height, image.width)),
    }
}

type Decode = fn(&Request<'_>) -> Result<RgbImage, Failure>;

struct Request<'a> {
    data: &'a [u8],
    at_least: Option<(usize, usize)>,
    limit: usize,
}

impl Request<'_> {
    fn check_size(&self, height: usize, width: usize) -> Result<(), Failure> {
        if height == 0 || width == 0 {
            return Err(Failure::Damaged(format!(
                "it is {height} rows by {width} columns"
            )));
        }
        if height.max(width) > MAX_SIDE || rgb_bytes(height, width) > self.limit as u64 {
            return Err(Failure::TooLarge { height, width });
        }
        Ok(())
    }
}

enum Failure {
    Damaged(String),
    TooLarge { height: usize, width: usize },
}

impl Failure {
    fn damaged(error: impl std::fmt::Display) -> Self {
        // the reason becomes part of a message of one line
        Self::Damaged(error.to_string().replace('\n', " "))
    }
}

/// Saturates: a header may claim any size.
fn rgb_bytes(height: usize, width: usize) -> u64 {
    (height as u64)
        .saturating_mul(width as u64)
        .saturating_mul(3)
}

fn decode_jpeg(request: &Request<'_>) -> Result<RgbImage, Failure> {
    let options = DecoderOptions::default()
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(Cursor::new(request.data), options);
    decoder.decode_headers().map_err(Failure::damaged)?;
    let info = decoder
        .info()
        .ok_or_else(|| Failure::Damaged("it has no header".to_owned()))?;
    let (height, width) = (usize::from(info.height), usize::from(info.width));
    request.check_size(height, width)?;
    // a decoder would fill the missing part with grey
    let end = request.data.iter().rposition(|byte| *byte != 0);
    if !request.data[..=end.unwrap_or(0)].ends_with(&[0xff, 0xd9]) {
        return Err(Failure::Damaged("its end is missing".to_owned()));
    }
    let reduction = reduction(request.at_least, height, width);
    if reduction > 1 {
        if let Some(image) = decode_reduced(request.data, height, width, reduction)? {
            return Ok(image);
        }
    }
    let pixels = decoder.decode().map_err(Failure::damaged)?;
    if pixels.len() as u64 != rgb_bytes(height, width) {
        return Err(Failure::Damaged(
            "it has no colours that are known".to_owned(),
        ));
    }
    Ok(RgbImage {
        height,
        width,
        pixels,
    })
}

/// The factor by which to reduce a JPEG while decoding it.
fn reduction(at_least: Option<(usize, usize)>, height: usize, width: usize) -> usize {
    let Some((rows, columns)) = at_least else {
        return 1;
    };
    let is_enough =
        |factor: &usize| height.div_ceil(*factor) >= rows || width.div_ceil(*factor) >= columns;
    [8, 4, 2].into_iter().find(is_enough).unwrap_or(1)
}

/// None for other colours than RGB, which the other decoder converts.
fn decode_reduced(
    data: &[u8],
    height: usize,
    width: usize,
    reduction: usize,
) -> Result<Option<RgbImage>, Failure> {
    let mut decoder = jpeg_decoder::Decoder::new(data);
    decoder.read_info().map_err(Failure::damaged)?;
    let (height, width) = (height.div_ceil(reduction), width.div_ceil(reduction));
    let (columns, rows) = decoder
        .scale(width as u16, height as u16)
        .map_err(Failure::damaged)?;
    let is_rgb = decoder
        .info()
        .is_some_and(|info| info.pixel_format == jpeg_decoder::PixelFormat::RGB24);
    if !is_rgb || (usize::from(rows), usize::from(columns)) != (height, width) {
        return Ok(None);
    }
    let pixels = decoder.decode().map_err(Failure::damaged)?;
    let is_whole = pixels.len() as u64 == rgb_bytes(height, width);
    Ok(is_whole.then_some(RgbImage {
        height,
        width,
        pixels,
    }))
}

fn decode_png(request: &Request<'_>) -> Result<RgbImage, Failure> {
    // 16 bits for each of four channels, and half as much for the decoder itself
    let bytes = request.limit.saturating_mul(4);
    let mut decoder =
        png::Decoder::new_with_limits(Cursor::new(request.data), png::Limits { bytes });
    decoder.set_transformations(png::Transformations::EXPAND);
    let header = decoder.read_header_info().map_err(Failure::damaged)?;
    let (height, width) = (header.height as usize, header.width as usize);
    request.check_size(height, width)?;
    let mut reader = decoder.read_info().map_err(Failure::damaged)?;
    let size = reader
        .output_buffer_size()
        .ok_or(Failure::TooLarge { height, width })?;
    let mut samples = vec![0; size];
    let decoded = reader.next_frame(&mut samples).map_err(Failure::damaged)?;
    let is_wide = decoded.bit_depth == png::BitDepth::Sixteen;
    let encoding = match (decoded.color_type, is_wide) {
        (png::ColorType::Grayscale, false) => "mono8",
        (png::ColorType::Grayscale, true) => "mono16",
        (png::ColorType::Rgb, false) => "rgb8",
        (png::ColorType::Rgb, true) => "rgb16",
        (png::ColorType::Rgba, false) => "rgba8",
        (png::ColorType::Rgba, true) => "rgba16",
        (png::ColorType::GrayscaleAlpha, false) => {
            samples = samples.chunks_exact(2).map(|pixel| pixel[0]).collect();
            "mono8"
        }
        (png::ColorType::GrayscaleAlpha, true) => {
            samples = samples
                .chunks_exact(4)
                .flat_map(|pixel| [pixel[0], pixel[1]])
                .collect();
            "mono16"
        }
        (png::ColorType::Indexed, _) => {
            return Err(Failure::Damaged("its palette is missing".to_owned()))
        }
    };
    let info = FrameInfo {
        encoding,
        height: height as u32,
        width: width as u32,
        step: (samples.len() / height) as u32,
        big_endian: true,
    };
    let frame = Frame::new(&samples, info).map_err(Failure::damaged)?;
    let mut pixels = vec![0; height * width * 3];
    frame.write_rgb(&mut pixels);
    Ok(RgbImage {
        height,
        width,
        pixels,
    })
}
