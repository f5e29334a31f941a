//! openpi's `resize_with_pad`: the largest copy of the image that fits, centred on black.
//!
//! Bytes as its client does with PIL, floats as its model code does with JAX.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod bytes;
mod floats;
mod passes;
#[cfg(test)]
mod tests;
mod weights;

use super::error::ImageError;
use super::shape::{ImageShape, Layout};

/// In pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub height: usize,
    pub width: usize,
}

/// Where the resized image lies in its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

impl Fit {
    /// Exactly openpi's arithmetic: sizes and offsets are truncated, not rounded.
    pub fn of(image: ImageShape, target: ImageShape) -> Result<Self, ImageError> {
        let (height, width) = (image.height as f64, image.width as f64);
        let ratio = f64::max(width / target.width as f64, height / target.height as f64);
        let fit_height = (height / ratio) as usize;
        let fit_width = (width / ratio) as usize;
        if fit_height == 0 || fit_width == 0 {
            return Err(ImageError::TooThin {
                height: image.height,
                width: image.width,
                target_height: target.height,
                target_width: target.width,
            });
        }
        Ok(Self {
            top: target.height.saturating_sub(fit_height) / 2,
            left: target.width.saturating_sub(fit_width) / 2,
            height: fit_height.min(target.height),
            width: fit_width.min(target.width),
        })
    }
}

/// The type of an image's samples, and openpi's black for it.
pub trait Sample: Copy + Send + Sync {
    /// The padding: 0 of 0 to 255, or -1 of -1 to 1.
    const BLACK: Self;

    /// Resize an image, or one plane of it, into its place in `out`, whose rows have `columns`
    /// pixels.
    fn resize<const CHANNELS: usize>(
        samples: &[Self],
        size: Size,
        out: &mut [Self],
        columns: usize,
        fit: Fit,
    );
}

/// Resize `samples` into `out`, and fill the rest of `out` with black.
///
/// `out` has the layout of the image and the size of `target`.
///
/// # Panics
/// If `samples` or `out` is not as long as its shape says.
pub fn resize_with_pad<S: Sample>(
    samples: &[S],
    image: ImageShape,
    out: &mut [S],
    target: ImageShape,
) -> Result<(), ImageError> {
    assert_eq!(samples.len(), image.len(), "samples of {image:?}");
    assert_eq!(out.len(), target.len(), "out of {target:?}");
    assert_eq!(image.layout, target.layout);
    if image == target {
        out.copy_from_slice(samples);
        return Ok(());
    }
    let fit = Fit::of(image, target)?;
    let size = Size {
        height: image.height,
        width: image.width,
    };
    match image.layout {
        Layout::Hwc => {
            fill_around::<S, 3>(out, target.width, fit);
            S::resize::<3>(samples, size, out, target.width, fit);
        }
        Layout::Chw => {
            let planes = samples.chunks_exact(image.height * image.width);
            let outs = out.chunks_exact_mut(target.height * target.width);
            for (plane, out) in planes.zip(outs) {
                fill_around::<S, 1>(out, target.width, fit);
                S::resize::<1>(plane, size, out, target.width, fit);
            }
        }
    }
    Ok(())
}

fn fill_around<S: Sample, const CHANNELS: usize>(out: &mut [S], columns: usize, fit: Fit) {
    let left = fit.left * CHANNELS;
    let right = left + fit.width * CHANNELS;
    for (row, out) in out.chunks_exact_mut(columns * CHANNELS).enumerate() {
        if (fit.top..fit.top + fit.height).contains(&row) {
            out[..left].fill(S::BLACK);
            out[right..].fill(S::BLACK);
        } else {
            out.fill(S::BLACK);
        }
    }
}

impl Sample for u8 {
    const BLACK: Self = 0;

    fn resize<const CHANNELS: usize>(
        samples: &[Self],
        size: Size,
        out: &mut [Self],
        columns: usize,
        fit: Fit,
    ) {
        let start = (fit.top * columns + fit.left) * CHANNELS;
        let fitted = Size {
            height: fit.height,
            width: fit.width,
        };
        bytes::resize::<CHANNELS>(samples, size, &mut out[start..], fitted, columns * CHANNELS);
    }
}

impl Sample for f32 {
    const BLACK: Self = -1.0;

    fn resize<const CHANNELS: usize>(
        samples: &[Self],
        size: Size,
        out: &mut [Self],
        columns: usize,
        fit: Fit,
    ) {
        floats::resize::<CHANNELS>(samples, size, out, columns, fit);
    }
}
