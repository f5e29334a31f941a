//! Operations that each processor has in its own form, with bit-identical results.

use super::cosine::{transformed, Numbers};

/// Sixteen numbers at a time: eight of a block, and eight of the block to its right.
pub(super) trait Arithmetic: Numbers + Sized {
    fn row(numbers: &[i16; 16]) -> Self::Row;
    /// Sixteen copies of `number`.
    fn all(number: i16) -> Self::Row;
    /// Red, green and blue of sixteen pixels, each in the upper byte of an unsigned number.
    fn interleaved(pixels: &[[u8; 3]; 16]) -> [Self::Row; 3];
    /// One colour of sixteen pixels, in the upper bytes likewise.
    fn plane(samples: &[u8; 16]) -> Self::Row;

    /// Unsigned numbers times `factor` / 2^16, truncated.
    fn share(row: Self::Row, factor: u16) -> Self::Row;
    /// Unsigned numbers shifted right by `BITS`.
    fn without_bits<const BITS: i32>(row: Self::Row) -> Self::Row;
    /// The DCT of each column.
    #[inline(always)]
    fn transformed(rows: [Self::Row; 8]) -> [Self::Row; 8] {
        transformed::<Self>(rows)
    }

    /// Each block transposed.
    fn transposed(rows: [Self::Row; 8]) -> [Self::Row; 8];
    /// `(|row| + rounding) / 2` times `factor` / 2^15, to the nearest, shifted right by `shift`,
    /// with the signs of `row`.
    fn quotient(row: Self::Row, rounding: Self::Row, factor: i16, shift: u32) -> Self::Row;
    /// Store rows, each of one horizontal frequency, as the levels of `pair`.
    fn store(rows: [Self::Row; 8], pair: &mut Pair);
}

/// Quantised DCT coefficients of two neighbouring blocks.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    /// A row of the left block, one of the right, and so on; each row has one horizontal frequency.
    pub levels: [i16; 128],
    /// For each block one bit per coefficient, in zigzag order, set where it is not zero.
    pub places: [u64; 2],
}

impl Pair {
    pub const EMPTY: Self = Self {
        levels: [0; 128],
        places: [0; 2],
    };
}

/// Plain Rust, for every processor.
pub(super) struct Plain;

impl Numbers for Plain {
    type Row = [i16; 16];

    #[inline(always)]
    fn sum(one: Self::Row, other: Self::Row) -> Self::Row {
        std::array::from_fn(|at| One::sum(one[at], other[at]))
    }

    #[inline(always)]
    fn difference(one: Self::Row, other: Self::Row) -> Self::Row {
        std::array::from_fn(|at| One::difference(one[at], other[at]))
    }

    #[inline(always)]
    fn product(row: Self::Row, factor: i16) -> Self::Row {
        row.map(|number| One::product(number, factor))
    }
}

/// A single number.
struct One;

impl Numbers for One {
    type Row = i16;

    #[inline(always)]
    fn sum(one: i16, other: i16) -> i16 {
        one.wrapping_add(other)
    }

    #[inline(always)]
    fn difference(one: i16, other: i16) -> i16 {
        one.wrapping_sub(other)
    }

    #[inline(always)]
    fn product(number: i16, factor: i16) -> i16 {
        ((i32::from(number) * i32::from(factor) + (1 << 14)) >> 15) as i16
    }
}

impl Arithmetic for Plain {
    #[inline(always)]
    fn row(numbers: &[i16; 16]) -> Self::Row {
        *numbers
    }

    #[inline(always)]
    fn all(number: i16) -> Self::Row {
        [number; 16]
    }

    #[inline(always)]
    fn interleaved(pixels: &[[u8; 3]; 16]) -> [Self::Row; 3] {
        std::array::from_fn(|colour| {
            std::array::from_fn(|at| i16::from_be_bytes([pixels[at][colour], 0]))
        })
    }

    #[inline(always)]
    fn plane(samples: &[u8; 16]) -> Self::Row {
        samples.map(|sample| i16::from_be_bytes([sample, 0]))
    }

    #[inline(always)]
    fn share(row: Self::Row, factor: u16) -> Self::Row {
        row.map(|number| ((u32::from(number as u16) * u32::from(factor)) >> 16) as i16)
    }

    #[inline(always)]
    fn without_bits<const BITS: i32>(row: Self::Row) -> Self::Row {
        row.map(|number| (number as u16 >> BITS) as i16)
    }

    /// Column by column, with named rows: a loop that compilers vectorise. Not inlined, to be
    /// compiled once.
    #[inline(never)]
    fn transformed(rows: [Self::Row; 8]) -> [Self::Row; 8] {
        let [r0, r1, r2, r3, r4, r5, r6, r7] = &rows;
        let mut out = [[0; 16]; 8];
        let [o0, o1, o2, o3, o4, o5, o6, o7] = &mut out;
        for i in 0..16 {
            let column = [r0[i], r1[i], r2[i], r3[i], r4[i], r5[i], r6[i], r7[i]];
            [o0[i], o1[i], o2[i], o3[i], o4[i], o5[i], o6[i], o7[i]] = transformed::<One>(column);
        }
        out
    }

    #[inline(always)]
    fn transposed(rows: [Self::Row; 8]) -> [Self::Row; 8] {
        std::array::from_fn(|row| std::array::from_fn(|at| rows[at % 8][at / 8 * 8 + row]))
    }

    #[inline(always)]
    fn quotient(row: Self::Row, rounding: Self::Row, factor: i16, shift: u32) -> Self::Row {
        let mut out = [0; 16];
        for ((number, rounding), out) in row.iter().zip(&rounding).zip(&mut out) {
            let half = (number.unsigned_abs() + *rounding as u16) >> 1;
            let quotient = One::product(half as i16, factor) >> shift;
            // negates where the number is negative
            let sign = number >> 15;
            *out = (quotient ^ sign) - sign;
        }
        out
    }

    #[inline(always)]
    fn store(rows: [Self::Row; 8], pair: &mut Pair) {
        pair.levels.copy_from_slice(rows.as_flattened());
        pair.places = [0; 2];
        for (row, bits) in rows.iter().zip(BITS_OF_PLACES.as_chunks::<8>().0) {
            for (levels, places) in row.as_chunks::<8>().0.iter().zip(&mut pair.places) {
                // most rows are zero
                if *levels == [0; 8] {
                    continue;
                }
                for (level, bit) in levels.iter().zip(bits) {
                    *places |= if *level == 0 { 0 } else { *bit };
                }
            }
        }
    }
}

/// The zigzag order of T.81, A.3.6, for blocks whose rows have one horizontal frequency each.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 8, 1, 2, 9, 16, 24, 17, 10, 3, 4, 11, 18, 25, 32, 40, 33, 26, 19, 12, 5, 6, 13, 20, 27, 34,
    41, 48, 56, 49, 42, 35, 28, 21, 14, 7, 15, 22, 29, 36, 43, 50, 57, 58, 51, 44, 37, 30, 23, 31,
    38, 45, 52, 59, 60, 53, 46, 39, 47, 54, 61, 62, 55, 63,
];

/// The inverse of `ZIGZAG`, as bits.
const BITS_OF_PLACES: [u64; 64] = {
    let mut bits = [0; 64];
    let mut place = 0;
    while place < 64 {
        bits[ZIGZAG[place] as usize] = 1 << place;
        place += 1;
    }
    bits
};
