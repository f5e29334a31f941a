//! openpi's `resize_with_pad`: the largest copy of the image that fits, in the middle of black.

use std::cell::RefCell;

use fast_image_resize::images::{TypedCroppedImageMut, TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8x3, U8};
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

/// Resize `pixels` into `out`, which must be black (zero) where it is to stay black.
///
/// `out` has the layout of the image and the size of `target`.
///
/// # Panics
/// Where `pixels` or `out` is not as long as its shape says.
pub fn resize_with_pad(
    pixels: &[u8],
    image: ImageShape,
    out: &mut [u8],
    target: ImageShape,
) -> Result<(), ImageError> {
    assert_eq!(pixels.len(), image.byte_length(), "pixels of {image:?}");
    assert_eq!(out.len(), target.byte_length(), "out of {target:?}");
    assert_eq!(image.layout, target.layout);
    if image == target {
        out.copy_from_slice(pixels);
        return Ok(());
    }
    let fit = Fit::of(image, target)?;
    let resized = match image.layout {
        Layout::Hwc => resize_plane::<U8x3>(pixels, image, out, target, fit),
        Layout::Chw => {
            let planes = pixels.chunks_exact(image.height * image.width);
            let outs = out.chunks_exact_mut(target.height * target.width);
            planes
                .zip(outs)
                .try_for_each(|(plane, out)| resize_plane::<U8>(plane, image, out, target, fit))
        }
    };
    resized.expect("lengths, and a window inside its target, which were checked above");
    Ok(())
}

thread_local! {
    /// Keeps its buffers and filter coefficients from one image to the next.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

fn resize_plane<P: PixelTrait + InnerPixel>(
    pixels: &[u8],
    image: ImageShape,
    out: &mut [u8],
    target: ImageShape,
    fit: Fit,
) -> Result<(), Box<dyn std::error::Error>> {
    // PIL's BILINEAR: a triangle as wide as the reduction, in 8-bit fixed point
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let source = TypedImageRef::<P>::from_buffer(image.width as u32, image.height as u32, pixels)?;
    let mut canvas = TypedImage::<P>::from_buffer(target.width as u32, target.height as u32, out)?;
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
