//! The code over a message: `reed-solomon-simd` computes it.

use std::cell::RefCell;

use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{EncoderWork, HighRateEncoder, RateEncoder};

use super::shape::Shape;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    #[error("a message of {got} bytes, where its shape says {expected}")]
    Length { got: usize, expected: usize },
    #[error("the code has no such shape: {0}")]
    Shape(String),
}

thread_local! {
    /// About the size of a message; kept because new memory costs more than the code.
    static WORK: RefCell<Option<EncoderWork>> = const { RefCell::new(None) };
}

/// The rows of repair of a message in `parts`, one after the other.
pub fn encode<'a>(
    shape: Shape,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, CodeError> {
    let mut got = 0;
    let repair = with_encoder(shape, |encoder| {
        let mut cut = Cut::new(shape.row_bytes());
        for part in parts {
            got += part.len();
            cut.add(part, |row| encoder.add_original_shard(row))?;
        }
        cut.end(|row| encoder.add_original_shard(row))?;
        let result = encoder.encode()?;
        let mut repair = Vec::with_capacity(shape.repair_bytes());
        for row in result.recovery_iter() {
            repair.extend_from_slice(row);
        }
        Ok(repair)
    });
    let expected = shape.message_bytes();
    if got != expected {
        return Err(CodeError::Length { got, expected });
    }
    repair
}

fn with_encoder<T>(
    shape: Shape,
    run: impl FnOnce(&mut HighRateEncoder<DefaultEngine>) -> Result<T, reed_solomon_simd::Error>,
) -> Result<T, CodeError> {
    let work = WORK.take();
    let (rows, repair) = (shape.rows(), shape.repair_rows());
    let engine = DefaultEngine::new();
    let described = |error: reed_solomon_simd::Error| CodeError::Shape(error.to_string());
    let mut encoder =
        HighRateEncoder::new(rows, repair, shape.row_bytes(), engine, work).map_err(described)?;
    let result = run(&mut encoder);
    WORK.set(Some(encoder.into_parts().1));
    result.map_err(described)
}

/// Cuts bytes that come in parts into rows.
struct Cut {
    row_bytes: usize,
    /// The begin of a row that a part did not end.
    begun: Vec<u8>,
}

impl Cut {
    fn new(row_bytes: usize) -> Self {
        Self {
            row_bytes,
            begun: Vec::with_capacity(row_bytes),
        }
    }

    fn add<E>(
        &mut self,
        mut part: &[u8],
        mut row: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.begun.is_empty() {
            let (head, rest) = part.split_at(part.len().min(self.row_bytes - self.begun.len()));
            self.begun.extend_from_slice(head);
            part = rest;
            if self.begun.len() == self.row_bytes {
                row(&self.begun)?;
                self.begun.clear();
            }
        }
        let mut rows = part.chunks_exact(self.row_bytes);
        rows.by_ref().try_for_each(&mut row)?;
        self.begun.extend_from_slice(rows.remainder());
        Ok(())
    }

    fn end<E>(mut self, mut row: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if self.begun.is_empty() {
            return Ok(());
        }
        self.begun.resize(self.row_bytes, 0);
        row(&self.begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_make_no_difference(
            lengths in proptest::collection::vec(0usize..3_000, 1..6),
            pieces in 1usize..4,
            rows in 1usize..5,
        ) {
            let total: usize = lengths.iter().sum();
            let message: Vec<u8> = (0..total).map(|i| (i * i / 7) as u8).collect();
            let Some(shape) = Shape::new(total, pieces, rows) else { return Ok(()) };
            let mut rest = message.as_slice();
            let mut parts = Vec::new();
            for length in lengths {
                let (part, left) = rest.split_at(length);
                parts.push(part);
                rest = left;
            }
            prop_assert_eq!(encode(shape, parts), encode(shape, [message.as_slice()]));
        }
    }

    #[test]
    fn a_message_of_another_length_is_refused() {
        let shape = Shape::new(100, 1, 1).unwrap();
        let error = encode(shape, [b"short".as_slice()]);
        let (got, expected) = (5, 100);
        assert_eq!(error, Err(CodeError::Length { got, expected }));
    }

    #[test]
    fn one_row_of_repair_is_the_sum_of_all_rows() {
        let message = Vec::from_iter(0..128u8);
        let repair = encode(Shape::new(128, 1, 1).unwrap(), [message.as_slice()]).unwrap();
        let sum: Vec<u8> = (0..64).map(|i| message[i] ^ message[64 + i]).collect();
        assert_eq!(repair, sum);
    }
}
