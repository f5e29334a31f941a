//! Arithmetic of the code's field, GF(2^16) in the basis of `reed-solomon-simd`.

use reed_solomon_simd::engine::tables::{get_exp_log, ExpLog};

/// Exponents are modulo this.
const ORDER: u32 = 65_535;

/// The field's tables.
#[derive(Clone, Copy)]
pub struct Field(&'static ExpLog);

impl Field {
    pub fn new() -> Self {
        Self(get_exp_log())
    }

    /// The logarithm of a number that is not zero.
    pub fn log(self, x: u16) -> u32 {
        u32::from(self.0.log[usize::from(x)])
    }
}

/// The inverse of a part of the code's matrix: what missing rows are made of.
///
/// Row `r` of repair holds the sum over all rows `j` of the message of `factor[j] / (r + chunk + j)`
/// times that row, a Cauchy matrix with scaled columns, whose inverse is known in closed form.
pub struct Inverse {
    /// Logarithms, `missing` rows of `used` columns.
    logs: Vec<u16>,
    size: usize,
}

impl Inverse {
    /// For the rows `missing` of the message with the [`factor`]s `scales`, from as many rows `used` of
    /// the repair, of a code with chunks of `chunk_rows`.
    pub fn new(
        field: Field,
        chunk_rows: usize,
        missing: &[usize],
        scales: &[u32],
        used: &[usize],
    ) -> Self {
        debug_assert_eq!(missing.len(), used.len());
        // Points of the rows: distinct elements of the field.
        let z: Vec<u16> = missing.iter().map(|j| (j + chunk_rows) as u16).collect();
        let x: Vec<u16> = used.iter().map(|r| *r as u16).collect();
        let log = |a: u16, b: u16| field.log(a ^ b);
        let cross = |points: &[u16], other: u16| -> u32 {
            points.iter().map(|p| log(*p, other)).sum::<u32>() % ORDER
        };
        let own = |points: &[u16], own: u16| -> u32 {
            let others = points.iter().filter(|p| **p != own);
            others.map(|p| log(*p, own)).sum::<u32>() % ORDER
        };
        let inverse = |log: u32| ORDER - log % ORDER;
        let of_missing: Vec<u32> = z
            .iter()
            .zip(scales)
            .map(|(z_j, scale)| {
                (cross(&x, *z_j) + inverse(own(&z, *z_j)) + inverse(*scale)) % ORDER
            })
            .collect();
        let of_used: Vec<u32> = x
            .iter()
            .map(|x_r| (cross(&z, *x_r) + inverse(own(&x, *x_r))) % ORDER)
            .collect();
        let mut logs = Vec::with_capacity(z.len() * x.len());
        for (z_j, a) in z.iter().zip(&of_missing) {
            for (x_r, b) in x.iter().zip(&of_used) {
                logs.push(((a + b + inverse(log(*z_j, *x_r))) % ORDER) as u16);
            }
        }
        Self {
            logs,
            size: missing.len(),
        }
    }

    /// The logarithms of what the used rows are multiplied with for the missing row of this index.
    pub fn row(&self, index: usize) -> &[u16] {
        &self.logs[index * self.size..(index + 1) * self.size]
    }
}

/// Logarithm of the factor of a row of the message: of the product of its point plus `v` over all `v`
/// below `chunk_rows`, divided by the product of those `v` that are not zero.
pub fn factor(field: Field, chunk_rows: usize, row: usize) -> u32 {
    let point = (row + chunk_rows) as u16;
    let all = 0..chunk_rows as u16;
    let above: u32 = all.clone().map(|v| field.log(point ^ v)).sum();
    let below: u32 = all.skip(1).map(|v| field.log(v)).sum();
    (above % ORDER + ORDER - below % ORDER) % ORDER
}

#[cfg(test)]
mod tests {
    use super::*;
    use reed_solomon_simd::engine::DefaultEngine;
    use reed_solomon_simd::rate::{HighRateEncoder, RateEncoder};

    /// What the library makes of rows that are zero but for a one in `row`.
    fn column(rows: usize, repair: usize, row: usize) -> Vec<u16> {
        let engine = DefaultEngine::new();
        let mut encoder = HighRateEncoder::new(rows, repair, 64, engine, None).unwrap();
        for number in 0..rows {
            let mut shard = [0; 64];
            shard[0] = u8::from(number == row);
            encoder.add_original_shard(shard).unwrap();
        }
        let result = encoder.encode().unwrap();
        let recovery = result.recovery_iter();
        recovery
            .map(|shard| u16::from_le_bytes([shard[0], shard[32]]))
            .collect()
    }

    #[test]
    fn the_librarys_matrix_is_the_documented_one() {
        let field = Field::new();
        for (rows, repair) in [(1, 1), (5, 1), (5, 3), (3, 8), (318, 12), (1_000, 100usize)] {
            let chunk = repair.next_power_of_two();
            for row in [0, rows / 2, rows - 1] {
                let point = (row + chunk) as u16;
                let expected: Vec<u16> = (0..repair as u16)
                    .map(|r| {
                        let log = factor(field, chunk, row) + ORDER - field.log(point ^ r);
                        field.0.exp[(log % ORDER) as usize]
                    })
                    .collect();
                assert_eq!(column(rows, repair, row), expected, "{rows} {repair} {row}");
            }
        }
    }
}
