//! Blocks of samples as quantised frequencies, in whole numbers of 16 bits.
//!
//! Samples come in quarters. Each pass of the transform makes them the square root of 8 times larger than an orthonormal
//! one does, so that frequencies end in 32nds, and those of the brightest block just inside the 16 bits. What that
//! rounds off is a thousandth of what the default quality does.

use super::arithmetic::{Arithmetic, Pair};

/// How finely frequencies are kept: all in the same steps, of brightness and of colour alike.
///
/// The tables of T.81, which are everybody's, are coarser for what a person sees less. A policy is no person: for as
/// many bytes, equal steps leave it an image that is 2 dB closer to the one that was taken.
#[derive(Clone, Copy)]
pub(super) struct Quantizer {
    /// Levels of 255, roughly: the transform is orthonormal.
    pub step: u8,
}

impl Quantizer {
    /// The scale of the Independent JPEG Group, with 50 levels in the middle of it.
    pub fn of(quality: u8) -> Self {
        let step = if quality < 50 {
            (2500 / u32::from(quality)).min(255) as u8
        } else {
            (100 - quality).max(1)
        };
        Self { step }
    }

    /// Columns first, then, turned round, the rows.
    #[inline(always)]
    pub fn quantize<A: Arithmetic>(self, tile: &[A::Row; 8], pair: &mut Pair) {
        let columns = A::transposed(A::transformed(*tile));
        let mut both = A::transformed(columns);
        let step = u32::from(self.step) * FREQUENCY_UNITS;
        let shift = (step / 2 - 1).ilog2();
        let factor = (1_u32 << (15 + shift)).div_ceil(step / 2) as i16;
        let rounding = (step * self.rounding() / 64) as i16;
        let mut mean = [rounding; 16];
        (mean[0], mean[8]) = ((step / 2) as i16, (step / 2) as i16);
        let (mean, rounding) = (A::row(&mean), A::all(rounding));
        for (index, row) in both.iter_mut().enumerate() {
            let rounding = if index == 0 { mean } else { rounding };
            *row = A::quotient(*row, rounding, factor, shift);
        }
        A::store(both, pair);
    }

    /// What is added before a level is cut off, in 64ths of a step. With less than half a step, a frequency is zero a
    /// little longer, which saves more bytes than it costs quality: for as many dB, a photograph has 6 % fewer bytes and
    /// 8 % fewer symbols, in steps that are an eighth finer. Who asks for the finest steps gets the nearest levels.
    fn rounding(self) -> u32 {
        if self.step == 1 {
            32
        } else {
            23
        }
    }
}

/// What one is in frequencies.
const FREQUENCY_UNITS: u32 = 32;
