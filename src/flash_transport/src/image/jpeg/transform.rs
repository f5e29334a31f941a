//! A block of samples as quantised frequencies.

use super::planes::Block;

/// Quantised frequencies in zigzag order.
pub(super) type Frequencies = [i16; 64];

/// How a processor adds a product; one that can do it in one step does twice as much.
pub(super) trait Arithmetic {
    fn add_product(sum: f32, one: f32, other: f32) -> f32;
}

pub(super) struct Plain;

impl Arithmetic for Plain {
    #[inline(always)]
    fn add_product(sum: f32, one: f32, other: f32) -> f32 {
        sum + one * other
    }
}

/// For processors with the instruction; on others it would be a call of a function.
pub(super) struct Fused;

impl Arithmetic for Fused {
    #[inline(always)]
    fn add_product(sum: f32, one: f32, other: f32) -> f32 {
        one.mul_add(other, sum)
    }
}

/// How finely frequencies are kept.
pub(super) struct Quantizer {
    steps: [u8; 64],
    inverse: Block,
}

impl Quantizer {
    pub fn brightness(quality: u8) -> Self {
        Self::new(&BRIGHTNESS_STEPS, quality)
    }

    pub fn colour(quality: u8) -> Self {
        Self::new(&COLOUR_STEPS, quality)
    }

    /// The scale of the Independent JPEG Group, which everybody's `quality` means.
    fn new(steps: &[u8; 64], quality: u8) -> Self {
        let quality = u32::from(quality);
        let percent = if quality < 50 {
            5000 / quality
        } else {
            200 - 2 * quality
        };
        let steps = steps.map(|step| ((u32::from(step) * percent + 50) / 100).clamp(1, 255) as u8);
        let mut inverse = [[0.0; 8]; 8];
        for (inverse, step) in inverse.as_flattened_mut().iter_mut().zip(steps) {
            *inverse = 1.0 / f32::from(step);
        }
        Self { steps, inverse }
    }

    /// By rows.
    pub fn steps(&self) -> &[u8; 64] {
        &self.steps
    }

    /// Every loop over eight columns is one vector operation, which is why the cosine transform is two plain products
    /// of matrices and not one of the algorithms with fewer multiplications; and rows come first, because their
    /// samples are taken one by one, from memory, and what comes out of them is not.
    #[inline(always)]
    pub fn quantize<A: Arithmetic>(&self, block: &Block) -> Frequencies {
        let mut horizontal = [[0.0_f32; 8]; 8];
        for (row, out) in block.iter().zip(&mut horizontal) {
            for (sample, cosines) in row.iter().zip(&COSINES_BY_COLUMN) {
                for column in 0..8 {
                    out[column] = A::add_product(out[column], *sample, cosines[column]);
                }
            }
        }
        let mut natural = [[0_i16; 8]; 8];
        for row in 0..8 {
            let mut both = [0.0_f32; 8];
            for near in 0..4 {
                for column in 0..8 {
                    // even frequencies see the sums of mirrored rows, odd ones the differences
                    let (near_one, far_one) =
                        (horizontal[near][column], horizontal[7 - near][column]);
                    let half = if row % 2 == 0 {
                        near_one + far_one
                    } else {
                        near_one - far_one
                    };
                    both[column] = A::add_product(both[column], COSINES[row][near], half);
                }
            }
            for column in 0..8 {
                let level = both[column] * self.inverse[row][column];
                // the sum has no room for fractions, and the nearest whole number in its last bits
                natural[row][column] = (level + ROUND).to_bits() as i16;
            }
        }
        let natural = natural.as_flattened();
        ZIGZAG.map(|at| natural[at])
    }
}

const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23

/// Row by frequency, column by place: the cosine transform, made orthonormal.
const COSINES: Block = cosines();

const COSINES_BY_COLUMN: Block = {
    let mut turned = [[0.0; 8]; 8];
    let mut index = 0;
    while index < 64 {
        turned[index % 8][index / 8] = COSINES[index / 8][index % 8];
        index += 1;
    }
    turned
};

const fn cosines() -> Block {
    // cos(k * pi / 16) / 2
    const HALF_COSINES: [f64; 9] = [
        0.5,
        0.490_392_640_201_615_2,
        0.461_939_766_255_643_4,
        0.415_734_806_151_272_6,
        0.353_553_390_593_273_8,
        0.277_785_116_509_801_1,
        0.191_341_716_182_544_9,
        0.097_545_161_008_064_1,
        0.0,
    ];
    let mut cosines = [[0.0; 8]; 8];
    let mut index = 0;
    while index < 64 {
        let (frequency, place) = (index / 8, index % 8);
        cosines[frequency][place] = if frequency == 0 {
            HALF_COSINES[4] as f32
        } else {
            // of angles up to 2 pi, by those up to pi / 2
            let angle = (2 * place + 1) * frequency % 32;
            let mirrored = if angle > 16 { 32 - angle } else { angle };
            if mirrored > 8 {
                -HALF_COSINES[16 - mirrored] as f32
            } else {
                HALF_COSINES[mirrored] as f32
            }
        };
        index += 1;
    }
    cosines
}

/// Place in the block of each frequency, from the lowest to the highest.
pub(super) const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Of T.81, annex K.1, by rows.
const BRIGHTNESS_STEPS: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

const COLOUR_STEPS: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];
