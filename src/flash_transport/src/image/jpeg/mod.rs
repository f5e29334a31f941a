//! Writes baseline JPEG (ITU-T T.81, JFIF), for policies and not for people: each pixel keeps its own colour (4:4:4),
//! and all frequencies are kept in equal steps. For as many bytes, an image is so about 2 dB closer to what the camera
//! saw than with the tables of T.81, and 3 dB closer than with four pixels that share a colour (4:2:0) on top of them,
//! which is what encoders do if nobody asks.
//!
//! Robots encode a few small images for each request, so time and size both count: 3 images of 224x224 in about a
//! millisecond, with Huffman tables made for each image. libjpeg-turbo would be as fast, but needs cmake and nasm to
//! build, which a robot and a manylinux image do not have, and `jpeg-encoder` takes twice as long.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod huffman;
mod planes;
mod scan;
mod transform;

use super::error::ImageError;
use super::shape::ImageShape;
use huffman::HuffmanTable;
use planes::Strip;
use scan::Tokens;
use transform::{Arithmetic, Plain, Quantizer};

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
    let quantizer = Quantizer::of(quality);
    let tokens = tokenize(pixels, image, quantizer);
    Ok(file(image, quantizer, &tokens))
}

fn file(image: ImageShape, quantizer: Quantizer, tokens: &Tokens) -> Vec<u8> {
    let tables = tokens.huffman_tables();
    let mut out = header(image, quantizer, &tables);
    tokens.write(&tables, &mut out);
    out.extend([0xff, END_OF_IMAGE]);
    out
}

fn tokenize(pixels: &[u8], image: ImageShape, quantizer: Quantizer) -> Tokens {
    #[cfg(target_arch = "x86_64")]
    if has_wide_vectors() {
        // SAFETY: the processor has what the function was compiled for, as just asked.
        return unsafe { tokenize_avx2(pixels, image, quantizer) };
    }
    tokenize_with::<Plain>(pixels, image, quantizer)
}

#[cfg(target_arch = "x86_64")]
fn has_wide_vectors() -> bool {
    std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("fma")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2")
        && std::is_x86_feature_detected!("lzcnt")
}

/// The same code for wider vectors.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt")]
unsafe fn tokenize_avx2(pixels: &[u8], image: ImageShape, quantizer: Quantizer) -> Tokens {
    tokenize_with::<avx2::Avx2>(pixels, image, quantizer)
}

#[inline(always)]
fn tokenize_with<A: Arithmetic>(pixels: &[u8], image: ImageShape, quantizer: Quantizer) -> Tokens {
    let mut strip = Strip::new(image);
    let mut tokens = Tokens::for_image(image);
    for index in 0..image.height.div_ceil(planes::HEIGHT) {
        strip.fill(pixels, image, index);
        for column in 0..strip.blocks() {
            for plane in 0..3 {
                let block = strip.block::<A>(plane, column);
                tokens.push(plane, &quantizer.quantize::<A>(block));
            }
        }
    }
    tokens
}

fn header(image: ImageShape, quantizer: Quantizer, tables: &[HuffmanTable; 4]) -> Vec<u8> {
    let mut out = vec![0xff, START_OF_IMAGE];
    segment(&mut out, JFIF, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    let mut steps = vec![0];
    steps.extend([quantizer.step; 64]);
    segment(&mut out, QUANTIZATION, &steps);
    let [high, low] = (image.height as u16).to_be_bytes();
    let [wide, narrow] = (image.width as u16).to_be_bytes();
    let frame = [
        8, high, low, wide, narrow, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0,
    ];
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
        for quality in [1, 20, 50, 91, 100] {
            let quantizer = Quantizer::of(quality);
            let plain = tokenize_with::<Plain>(&pixels, image, quantizer);
            let plain = file(image, quantizer, &plain);
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
