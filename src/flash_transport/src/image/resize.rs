//! openpi's `resize_with_pad`: the largest copy of the image that fits, in the middle of black.
//!
//! Bytes come out as from its client, which has PIL do it; floats as from its model code, which has JAX do it.

use std::cell::RefCell;

use fast_image_resize::images::{TypedCroppedImageMut, TypedImage, TypedImageRef};
use fast_image_resize::pixels::{F32x3, InnerPixel, U8x3, F32, U8};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::error::ImageError;
use super::shape::{ImageShape, Layout};

/// Where the resized image lies in its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

impl Fit {
    /// openpi's arithmetic to the letter: sizes and offsets are cut off, not rounded.
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

/// What images are made of, and what openpi takes for black.
pub trait Sample: Copy + Send + Sync {
    /// Around the image: zero of 0 to 255, and -1 of -1 to 1.
    const BLACK: Self;
    /// One sample, for planes.
    type Plane: PixelTrait + InnerPixel;
    /// Three samples.
    type Rgb: PixelTrait + InnerPixel;

    fn bytes(samples: &[Self]) -> &[u8];
    fn bytes_mut(samples: &mut [Self]) -> &mut [u8];

    /// The sample inside its range.
    fn clipped(self) -> Self;
}

impl Sample for u8 {
    const BLACK: Self = 0;
    type Plane = U8;
    type Rgb = U8x3;

    fn bytes(samples: &[Self]) -> &[u8] {
        samples
    }

    fn bytes_mut(samples: &mut [Self]) -> &mut [u8] {
        samples
    }

    fn clipped(self) -> Self {
        self
    }
}

impl Sample for f32 {
    const BLACK: Self = -1.0;
    type Plane = F32;
    type Rgb = F32x3;

    fn bytes(samples: &[Self]) -> &[u8] {
        // SAFETY: a float is four bytes, and bytes have no alignment.
        unsafe {
            std::slice::from_raw_parts(samples.as_ptr().cast(), std::mem::size_of_val(samples))
        }
    }

    fn bytes_mut(samples: &mut [Self]) -> &mut [u8] {
        // SAFETY: as above; all bytes make some float.
        unsafe {
            std::slice::from_raw_parts_mut(
                samples.as_mut_ptr().cast(),
                std::mem::size_of_val(samples),
            )
        }
    }

    fn clipped(self) -> Self {
        self.clamp(-1.0, 1.0)
    }
}

/// Resize `samples` into `out`, all of which is written.
///
/// `out` has the layout of the image and the size of `target`.
///
/// # Panics
/// Where `samples` or `out` is not as long as its shape says.
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
    out.fill(S::BLACK);
    let resized = match image.layout {
        Layout::Hwc => resize_plane::<S, S::Rgb>(samples, image, out, target, fit),
        Layout::Chw => {
            let planes = samples.chunks_exact(image.height * image.width);
            let outs = out.chunks_exact_mut(target.height * target.width);
            planes.zip(outs).try_for_each(|(plane, out)| {
                resize_plane::<S, S::Plane>(plane, image, out, target, fit)
            })
        }
    };
    resized.expect("lengths, and a window inside its target, which were checked above");
    for sample in out {
        *sample = sample.clipped();
    }
    Ok(())
}

thread_local! {
    /// Keeps its buffers and filter coefficients from one image to the next.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

fn resize_plane<S: Sample, P: PixelTrait + InnerPixel>(
    samples: &[S],
    image: ImageShape,
    out: &mut [S],
    target: ImageShape,
    fit: Fit,
) -> Result<(), Box<dyn std::error::Error>> {
    // PIL's BILINEAR, and JAX's LINEAR: a triangle as wide as the reduction. Bytes are worked on in fixed point, as
    // in PIL, floats in floats
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let source = TypedImageRef::<P>::from_buffer(
        image.width as u32,
        image.height as u32,
        S::bytes(samples),
    )?;
    let mut canvas =
        TypedImage::<P>::from_buffer(target.width as u32, target.height as u32, S::bytes_mut(out))?;
    let mut window = TypedCroppedImageMut::from_ref(
        &mut canvas,
        fit.left as u32,
        fit.top as u32,
        fit.width as u32,
        fit.height as u32,
    )?;
    RESIZER.with_borrow_mut(|resizer| resizer.resize_typed(&source, &mut window, &options))?;
    Ok(())
}
