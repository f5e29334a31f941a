//! Conversions compiled twice: for every processor of the target, and for the vectors that most of them have.

use super::samples::Samples;

/// A conversion to RGB. Its method is inlined, so that it is compiled for its caller's vectors, and it is a type, not
/// a closure, so that it is vectorised at all.
pub(super) trait Convert {
    fn write_rgb(samples: &Samples<'_>, out: &mut [u8]);
}

pub(super) fn convert<C: Convert>(samples: &Samples<'_>, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function was compiled for, as just asked.
        return unsafe { convert_avx2::<C>(samples, out) };
    }
    C::write_rgb(samples, out);
}

/// The same code for vectors that can be shuffled byte by byte, which every x86 of the last ten years has (and every
/// aarch64): 0.04 ms instead of 0.3 for bgr8 at 640x480.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn convert_avx2<C: Convert>(samples: &Samples<'_>, out: &mut [u8]) {
    C::write_rgb(samples, out);
}

/// Write three rows of colours as one row of pixels.
#[inline(always)]
pub(super) fn interleave(red: &[u8], green: &[u8], blue: &[u8], out: &mut [u8]) {
    for (((out, red), green), blue) in out.chunks_exact_mut(3).zip(red).zip(green).zip(blue) {
        out.copy_from_slice(&[*red, *green, *blue]);
    }
}
