//! Blocks of samples as quantised frequencies, in whole numbers of 16 bits.
//!
//! Samples come in quarters. Each pass of the transform makes them the square root of 8 times larger than an orthonormal
//! one does, so that frequencies end in 32nds, and those of the brightest block just inside the 16 bits. What that
//! rounds off is a thousandth of what the default quality does.

use super::arithmetic::{Arithmetic, Numbers, Pair};

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

/// The cosine transform of each column, as Loeffler, Ligtenberg and Moschytz factor it, times the square root of 8.
#[inline(always)]
pub(super) fn transformed<A: Numbers>(
    [r0, r1, r2, r3, r4, r5, r6, r7]: [A::Row; 8],
) -> [A::Row; 8] {
    // even frequencies see the sums of mirrored rows, odd ones the differences
    let (s0, s1) = (A::sum(r0, r7), A::sum(r1, r6));
    let (s2, s3) = (A::sum(r2, r5), A::sum(r3, r4));
    let (d0, d1) = (A::difference(r0, r7), A::difference(r1, r6));
    let (d2, d3) = (A::difference(r2, r5), A::difference(r3, r4));

    let (near, far) = (A::sum(s0, s3), A::sum(s1, s2));
    let (outer, inner) = (A::difference(s0, s3), A::difference(s1, s2));

    let (a, b) = rotated::<A>(d0, d3, COS_3, SIN_3);
    let (c, d) = rotated::<A>(d1, d2, COS_1, SIN_1);
    let (with_d, with_c) = (A::sum(a, d), A::sum(b, c));
    [
        A::sum(near, far),
        A::sum(with_d, with_c),
        A::sum(
            more::<A>(outer, ROOT2_COS_2),
            A::product(inner, ROOT2_SIN_2),
        ),
        more::<A>(A::difference(a, d), ROOT2),
        A::difference(near, far),
        more::<A>(A::difference(b, c), ROOT2),
        A::difference(
            A::product(outer, ROOT2_SIN_2),
            more::<A>(inner, ROOT2_COS_2),
        ),
        A::difference(with_d, with_c),
    ]
}

#[inline(always)]
fn rotated<A: Numbers>(x: A::Row, y: A::Row, cos: i16, sin: i16) -> (A::Row, A::Row) {
    (
        A::difference(A::product(x, cos), A::product(y, sin)),
        A::sum(A::product(x, sin), A::product(y, cos)),
    )
}

/// The row, and the product of it.
#[inline(always)]
fn more<A: Numbers>(row: A::Row, factor: i16) -> A::Row {
    A::sum(row, A::product(row, factor))
}

// of n * pi / 16, in 2^-15
const COS_1: i16 = 32_138;
const SIN_1: i16 = 6_393;
const COS_3: i16 = 27_246;
const SIN_3: i16 = 18_205;
const ROOT2_SIN_2: i16 = 17_734;
// less one
const ROOT2_COS_2: i16 = 10_045;
const ROOT2: i16 = 13_573;
