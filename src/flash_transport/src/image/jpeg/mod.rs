//! Writes baseline JPEG (ITU-T T.81, JFIF).
//!
//! Robots encode a few small images for each request, so time and size both count: 3 images of 224x224 in less than
//! a millisecond, with Huffman tables made for each image. libjpeg-turbo would be as fast, but needs cmake and nasm
//! to build, which a robot and a manylinux image do not have; `jpeg-encoder` takes twice as long and, at 4:2:0, drops
//! three of four colours where this one takes their mean (1 dB).

mod huffman;
mod planes;
mod scan;
mod transform;

use super::error::ImageError;
use super::shape::ImageShape;
use huffman::HuffmanTable;
use planes::Strip;
use scan::{BitWriter, Tokens};
use transform::{Arithmetic, Quantizer, ZIGZAG};

/// From this quality on each pixel keeps its own colour (4:4:4); below it four share one (4:2:0).
pub const FULL_COLOUR_QUALITY: u8 = 95;

/// The format has two bytes for a side.
const MAX_JPEG_SIDE: usize = u16::MAX as usize;

/// Encode an RGB image.
///
/// # Panics
/// Where `pixels` is not as long as its shape says.
pub fn encode_jpeg(pixels: &[u8], image: ImageShape, quality: u8) -> Result<Vec<u8>, ImageError> {
    assert_eq!(pixels.len(), image.len(), "pixels of {image:?}");
    let ImageShape { height, width, .. } = image;
    if !(1..=100).contains(&quality) {
        return Err(ImageError::Quality { quality });
    }
    if height > MAX_JPEG_SIDE || width > MAX_JPEG_SIDE {
        return Err(ImageError::JpegSize { height, width });
    }
    let share = if quality < FULL_COLOUR_QUALITY { 2 } else { 1 };
    let quantizers = [Quantizer::brightness(quality), Quantizer::colour(quality)];
    let tokens = tokenize(pixels, image, share, &quantizers);
    Ok(file(image, share, &quantizers, &tokens))
}

fn file(image: ImageShape, share: usize, quantizers: &[Quantizer; 2], tokens: &Tokens) -> Vec<u8> {
    let tables = tokens.huffman_tables();
    let mut out = header(image, share, quantizers, &tables);
    let mut writer = BitWriter::new(&mut out);
    tokens.write(&tables, &mut writer);
    writer.finish();
    out.extend([0xff, END_OF_IMAGE]);
    out
}

fn tokenize(pixels: &[u8], image: ImageShape, share: usize, quantizers: &[Quantizer; 2]) -> Tokens {
    #[cfg(target_arch = "x86_64")]
    if has_wide_vectors() {
        // SAFETY: the processor has what the function was compiled for, as just asked.
        return unsafe { tokenize_avx2(pixels, image, share, quantizers) };
    }
    tokenize_with::<Anywhere>(pixels, image, share, quantizers)
}

/// What every processor of the target can do.
#[cfg(target_arch = "aarch64")]
type Anywhere = transform::Fused;
#[cfg(not(target_arch = "aarch64"))]
type Anywhere = transform::Plain;

#[cfg(target_arch = "x86_64")]
fn has_wide_vectors() -> bool {
    std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("fma")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2")
        && std::is_x86_feature_detected!("lzcnt")
}

/// The same code for wider vectors: half of the time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt")]
unsafe fn tokenize_avx2(
    pixels: &[u8],
    image: ImageShape,
    share: usize,
    quantizers: &[Quantizer; 2],
) -> Tokens {
    tokenize_with::<transform::Fused>(pixels, image, share, quantizers)
}

#[inline(always)]
fn tokenize_with<A: Arithmetic>(
    pixels: &[u8],
    image: ImageShape,
    share: usize,
    quantizers: &[Quantizer; 2],
) -> Tokens {
    let mut strip = Strip::new(image, share);
    let mut tokens = Tokens::for_image(image);
    let [brightness, colour] = quantizers;
    for index in 0..image.height.div_ceil(strip.height()) {
        strip.fill(pixels, image, index);
        for unit in 0..strip.units() {
            for (row, column) in strip.brightness_blocks(unit) {
                let block = strip.brightness(row, column);
                tokens.push(0, &brightness.quantize::<A>(&block));
            }
            tokens.push(1, &colour.quantize::<A>(&strip.blue_difference(unit)));
            tokens.push(2, &colour.quantize::<A>(&strip.red_difference(unit)));
        }
    }
    tokens
}

fn header(
    image: ImageShape,
    share: usize,
    quantizers: &[Quantizer; 2],
    tables: &[HuffmanTable; 4],
) -> Vec<u8> {
    let mut out = vec![0xff, START_OF_IMAGE];
    segment(&mut out, JFIF, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    for (id, quantizer) in quantizers.iter().enumerate() {
        let mut body = vec![id as u8];
        body.extend(ZIGZAG.iter().map(|at| quantizer.steps()[*at]));
        segment(&mut out, QUANTIZATION, &body);
    }
    let [high, low] = (image.height as u16).to_be_bytes();
    let [wide, narrow] = (image.width as u16).to_be_bytes();
    let sampling = (share << 4 | share) as u8;
    let components = [1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1];
    let mut frame = vec![8, high, low, wide, narrow, 3];
    frame.extend(components);
    segment(&mut out, BASELINE_FRAME, &frame);
    for (table, id) in tables.iter().zip([0x00, 0x10, 0x01, 0x11]) {
        let mut body = vec![id];
        body.extend(table.counts());
        body.extend(table.symbols());
        segment(&mut out, HUFFMAN, &body);
    }
    segment(&mut out, SCAN, &[3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0]);
    out
}

fn segment(out: &mut Vec<u8>, marker: u8, body: &[u8]) {
    out.extend([0xff, marker]);
    out.extend((body.len() as u16 + 2).to_be_bytes());
    out.extend(body);
}

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const JFIF: u8 = 0xe0;
const QUANTIZATION: u8 = 0xdb;
const BASELINE_FRAME: u8 = 0xc0;
const HUFFMAN: u8 = 0xc4;
const SCAN: u8 = 0xda;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::decode_image;

    #[test]
    fn a_processor_with_other_vectors_writes_the_same_image() {
        let image = ImageShape::of(&[61, 83, 3]).unwrap();
        let pixels: Vec<u8> = (0..image.len())
            .map(|i| (i * i / 91 + i / 7) as u8)
            .collect();
        for (quality, share) in [(20, 2), (94, 2), (95, 1), (100, 1)] {
            let quantizers = [Quantizer::brightness(quality), Quantizer::colour(quality)];
            let plain = tokenize_with::<transform::Plain>(&pixels, image, share, &quantizers);
            let plain = file(image, share, &quantizers, &plain);
            let fast = encode_jpeg(&pixels, image, quality).unwrap();
            assert!(plain.len().abs_diff(fast.len()) <= fast.len() / 1000 + 2);
            // a level that lies between two steps may fall to either, and its block with it
            let [plain, fast] = [plain, fast].map(|data| decode_image(&data, None, 1 << 20));
            let pairs = plain.unwrap().pixels.into_iter().zip(fast.unwrap().pixels);
            let different = pairs
                .filter(|(one, other)| one.abs_diff(*other) > 1)
                .count();
            assert!(
                different <= image.len() / 100,
                "quality {quality}: {different}"
            );
        }
    }
}
