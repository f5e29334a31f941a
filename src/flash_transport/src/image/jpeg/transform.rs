//! A block of samples as quantised frequencies.

/// Quantised frequencies, by columns.
pub(super) struct Frequencies {
    pub levels: [[i16; 8]; 8],
    /// A bit for each that is not zero.
    pub present: u64,
}

impl Frequencies {
    /// By place in the order in which they are coded, from the lowest to the highest.
    #[inline(always)]
    pub fn level(&self, place: usize) -> i16 {
        self.levels.as_flattened()[usize::from(ZIGZAG[place & 63])]
    }

    /// A bit for each place that is not zero.
    #[inline(always)]
    pub fn places(&self) -> u64 {
        let tables = PLACES_OF_BITS.iter().enumerate();
        tables.fold(0, |places, (four, table)| {
            places | table[(self.present >> (four * 4) & 15) as usize]
        })
    }
}

/// What processors do in ways of their own.
pub(super) trait Arithmetic {
    /// Eight samples or frequencies.
    type Row: Copy;

    fn row(samples: &[f32; 8]) -> Self::Row;
    fn sum(one: Self::Row, other: Self::Row) -> Self::Row;
    fn difference(one: Self::Row, other: Self::Row) -> Self::Row;
    fn product(row: Self::Row, factor: f32) -> Self::Row;
    /// Of a sum and a product.
    fn plus_product(sum: Self::Row, row: Self::Row, factor: f32) -> Self::Row;
    fn transposed(rows: [Self::Row; 8]) -> [Self::Row; 8];
    /// The nearest whole numbers.
    fn rounded(rows: [Self::Row; 8]) -> Frequencies;
}

/// What every processor can do.
pub(super) struct Plain;

impl Arithmetic for Plain {
    type Row = [f32; 8];

    #[inline(always)]
    fn row(samples: &[f32; 8]) -> Self::Row {
        *samples
    }

    #[inline(always)]
    fn sum(one: Self::Row, other: Self::Row) -> Self::Row {
        std::array::from_fn(|column| one[column] + other[column])
    }

    #[inline(always)]
    fn difference(one: Self::Row, other: Self::Row) -> Self::Row {
        std::array::from_fn(|column| one[column] - other[column])
    }

    #[inline(always)]
    fn product(row: Self::Row, factor: f32) -> Self::Row {
        row.map(|sample| sample * factor)
    }

    #[inline(always)]
    fn plus_product(sum: Self::Row, row: Self::Row, factor: f32) -> Self::Row {
        std::array::from_fn(|column| sum[column] + row[column] * factor)
    }

    #[inline(always)]
    fn transposed(rows: [Self::Row; 8]) -> [Self::Row; 8] {
        std::array::from_fn(|row| std::array::from_fn(|column| rows[column][row]))
    }

    #[inline(always)]
    fn rounded(rows: [Self::Row; 8]) -> Frequencies {
        // the sum has no room for fractions, and the nearest whole number in its last bits
        let levels = rows.map(|row| row.map(|level| (level + 12_582_912.0).to_bits() as i16));
        let mut present = 0;
        for (at, level) in levels.as_flattened().iter().enumerate() {
            present |= u64::from(*level != 0) << at;
        }
        Frequencies { levels, present }
    }
}

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
    pub fn quantize<A: Arithmetic>(self, block: [A::Row; 8]) -> Frequencies {
        let inverse = 1.0 / f32::from(self.step);
        let columns = A::transposed(transformed::<A>(block));
        let mut both = transformed::<A>(columns);
        for row in &mut both {
            *row = A::product(*row, inverse);
        }
        A::rounded(both)
    }
}

/// The cosine transform of each column, orthonormal.
#[inline(always)]
fn transformed<A: Arithmetic>([r0, r1, r2, r3, r4, r5, r6, r7]: [A::Row; 8]) -> [A::Row; 8] {
    // even frequencies see the sums of mirrored rows, odd ones the differences
    let (s0, s1) = (A::sum(r0, r7), A::sum(r1, r6));
    let (s2, s3) = (A::sum(r2, r5), A::sum(r3, r4));
    let (d0, d1) = (A::difference(r0, r7), A::difference(r1, r6));
    let (d2, d3) = (A::difference(r2, r5), A::difference(r3, r4));
    let (near, far) = (A::sum(s0, s3), A::sum(s1, s2));
    let (outer, inner) = (A::difference(s0, s3), A::difference(s1, s2));
    [
        A::product(A::sum(near, far), C4),
        four::<A>([d0, d1, d2, d3], [C1, C3, C5, C7]),
        A::plus_product(A::product(outer, C2), inner, C6),
        four::<A>([d0, d1, d2, d3], [C3, -C7, -C1, -C5]),
        A::product(A::difference(near, far), C4),
        four::<A>([d0, d1, d2, d3], [C5, -C1, C7, C3]),
        A::plus_product(A::product(outer, C6), inner, -C2),
        four::<A>([d0, d1, d2, d3], [C7, -C5, C3, -C1]),
    ]
}

#[inline(always)]
fn four<A: Arithmetic>(rows: [A::Row; 4], factors: [f32; 4]) -> A::Row {
    let sum = A::product(rows[0], factors[0]);
    let sum = A::plus_product(sum, rows[1], factors[1]);
    let sum = A::plus_product(sum, rows[2], factors[2]);
    A::plus_product(sum, rows[3], factors[3])
}

/// Cn is half of cos(n * pi / 16).
const C1: f32 = 0.490_392_64;
const C2: f32 = 0.461_939_77;
const C3: f32 = 0.415_734_8;
const C4: f32 = 0.353_553_4;
const C5: f32 = 0.277_785_12;
const C6: f32 = 0.191_341_71;
const C7: f32 = 0.097_545_16;

/// Where each place lies in the block, by columns.
const ZIGZAG: [u8; 64] = [
    0, 8, 1, 2, 9, 16, 24, 17, 10, 3, 4, 11, 18, 25, 32, 40, 33, 26, 19, 12, 5, 6, 13, 20, 27, 34,
    41, 48, 56, 49, 42, 35, 28, 21, 14, 7, 15, 22, 29, 36, 43, 50, 57, 58, 51, 44, 37, 30, 23, 31,
    38, 45, 52, 59, 60, 53, 46, 39, 47, 54, 61, 62, 55, 63,
];

/// Of each four frequencies beside each other, the bits of their places by which of them are there.
const PLACES_OF_BITS: [[u64; 16]; 16] = {
    let mut tables = [[0; 16]; 16];
    let mut place = 0;
    while place < 64 {
        let at = ZIGZAG[place] as usize;
        let mut bits = 0;
        while bits < 16 {
            if bits >> (at % 4) & 1 == 1 {
                tables[at / 4][bits] |= 1 << place;
            }
            bits += 1;
        }
        place += 1;
    }
    tables
};
