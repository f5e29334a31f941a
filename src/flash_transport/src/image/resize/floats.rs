//! Floats, as openpi's models resize them with JAX.

use std::cell::RefCell;

use fast_image_resize::images::{TypedCroppedImageMut, TypedImage, TypedImageRef};
use fast_image_resize::pixels::{F32x3, InnerPixel, F32};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::{Fit, Size};

thread_local! {
    /// Keeps its buffers from one image to the next.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

pub(super) fn resize<const CHANNELS: usize>(
    samples: &[f32],
    size: Size,
    out: &mut [f32],
    columns: usize,
    fit: Fit,
) {
    let resized = match CHANNELS {
        1 => resize_pixels::<F32>(samples, size, out, columns, fit),
        3 => resize_pixels::<F32x3>(samples, size, out, columns, fit),
        _ => unreachable!("an image has three colours, and a plane has one"),
    };
    resized.expect("lengths, and a window inside its target, which the caller has checked");
    for sample in out {
        *sample = sample.clamp(-1.0, 1.0);
    }
}

fn resize_pixels<P: PixelTrait + InnerPixel>(
    samples: &[f32],
    size: Size,
    out: &mut [f32],
    columns: usize,
    fit: Fit,
) -> Result<(), Box<dyn std::error::Error>> {
    let rows = out.len() / columns / P::count_of_components();
    // JAX's LINEAR: a triangle, widened by the reduction (antialiasing)
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let source =
        TypedImageRef::<P>::from_buffer(size.width as u32, size.height as u32, as_bytes(samples))?;
    let mut canvas = TypedImage::<P>::from_buffer(columns as u32, rows as u32, as_bytes_mut(out))?;
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

fn as_bytes(samples: &[f32]) -> &[u8] {
    // SAFETY: a float is four bytes, and bytes have no alignment.
    unsafe { std::slice::from_raw_parts(samples.as_ptr().cast(), std::mem::size_of_val(samples)) }
}

fn as_bytes_mut(samples: &mut [f32]) -> &mut [u8] {
    let length = std::mem::size_of_val(samples);
    // SAFETY: as above; all bytes are valid floats.
    unsafe { std::slice::from_raw_parts_mut(samples.as_mut_ptr().cast(), length) }
}
