//! A QUIC datagram with repair of a message.

use bytes::{BufMut, Bytes, BytesMut};

use super::code::{encode, CodeError};
use super::shape::{Shape, PIECE};

/// First byte of a datagram of this kind; a probe's is `00`.
pub const KIND: u8 = 0x01;
/// Bytes before the symbol's pieces.
pub const HEADER_BYTES: usize = 22;

/// All repair of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    pub shape: Shape,
    /// CRC-32 of the message.
    check: u32,
    rows: Bytes,
}

/// Some pieces of the repair of the message on one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    pub stream: u64,
    pub shape: Shape,
    pub check: u32,
    /// Where `pieces` begin in the rows of repair, in pieces.
    pub at: usize,
    pub pieces: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SymbolError {
    #[error("no repair: first byte {got:?}")]
    Kind { got: Option<u8> },
    #[error("repair of {got} bytes is shorter than its header of {HEADER_BYTES}")]
    Short { got: usize },
    #[error(
        "no code for a message of {message} bytes, rows of {row_pieces} pieces, {rows} rows of repair"
    )]
    Shape {
        message: u32,
        row_pieces: u8,
        rows: u16,
    },
    #[error("repair has {got} bytes of pieces, which is no positive multiple of {PIECE}")]
    Pieces { got: usize },
    #[error("repair ends at piece {end}, its message has {pieces}")]
    Place { end: usize, pieces: usize },
}

impl Repair {
    /// The repair of a message in `parts`.
    pub fn new(shape: Shape, parts: &[Bytes]) -> Result<Self, CodeError> {
        let rows = encode(shape, parts.iter().map(Bytes::as_ref))?;
        let mut check = crc32fast::Hasher::new();
        parts.iter().for_each(|part| check.update(part));
        Ok(Self {
            shape,
            check: check.finalize(),
            rows: rows.into(),
        })
    }

    /// Bytes of the datagrams that carry it, if each has at most `largest`.
    pub fn datagram_bytes(&self, largest: usize) -> usize {
        let body = body_bytes(largest).max(PIECE);
        self.rows.len() + self.rows.len().div_ceil(body) * HEADER_BYTES
    }
}

/// The datagrams of the repair of the message on `stream`, each of at most `largest` bytes. None if
/// they cannot hold a piece.
pub fn symbols(
    repair: &Repair,
    stream: u64,
    largest: usize,
) -> impl Iterator<Item = Bytes> + use<'_> {
    let body = body_bytes(largest);
    let rows = match body {
        0 => Bytes::new(),
        _ => repair.rows.clone(),
    };
    (0..rows.len()).step_by(body.max(PIECE)).map(move |start| {
        let end = rows.len().min(start + body);
        Symbol {
            stream,
            shape: repair.shape,
            check: repair.check,
            at: start / PIECE,
            pieces: rows.slice(start..end),
        }
        .encode()
    })
}

fn body_bytes(largest: usize) -> usize {
    largest.saturating_sub(HEADER_BYTES) / PIECE * PIECE
}

impl Symbol {
    /// The whole datagram.
    pub fn encode(&self) -> Bytes {
        let mut datagram = BytesMut::with_capacity(HEADER_BYTES + self.pieces.len());
        datagram.put_u8(KIND);
        datagram.put_u8(self.shape.row_pieces() as u8);
        datagram.put_u16(self.shape.repair_rows() as u16);
        datagram.put_u16(self.at as u16);
        datagram.put_u32(self.shape.message_bytes() as u32);
        datagram.put_u32(self.check);
        datagram.put_u64(self.stream);
        datagram.put_slice(&self.pieces);
        datagram.freeze()
    }

    /// Parse a whole datagram.
    pub fn decode(datagram: &Bytes) -> Result<Self, SymbolError> {
        let got = datagram.first().copied();
        if got != Some(KIND) {
            return Err(SymbolError::Kind { got });
        }
        let Some((header, pieces)) = datagram.split_first_chunk::<HEADER_BYTES>() else {
            let got = datagram.len();
            return Err(SymbolError::Short { got });
        };
        let [_, row_pieces, r0, r1, a0, a1, m0, m1, m2, m3, c0, c1, c2, c3, stream @ ..] = *header;
        let rows = u16::from_be_bytes([r0, r1]);
        let at = usize::from(u16::from_be_bytes([a0, a1]));
        let message = u32::from_be_bytes([m0, m1, m2, m3]);
        let shape = Shape::new(message as usize, row_pieces.into(), rows.into()).ok_or(
            SymbolError::Shape {
                message,
                row_pieces,
                rows,
            },
        )?;
        let got = pieces.len();
        if got == 0 || got % PIECE != 0 {
            return Err(SymbolError::Pieces { got });
        }
        let end = at + got / PIECE;
        let pieces = shape.repair_bytes() / PIECE;
        if end > pieces {
            return Err(SymbolError::Place { end, pieces });
        }
        Ok(Self {
            stream: u64::from_be_bytes(stream),
            shape,
            check: u32::from_be_bytes([c0, c1, c2, c3]),
            at,
            pieces: datagram.slice(HEADER_BYTES..),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn repair() -> Repair {
        let message = Bytes::from_static(&[7; 1_000]);
        Repair::new(Shape::new(1_000, 2, 3).unwrap(), &[message]).unwrap()
    }

    #[test]
    fn the_datagrams_hold_all_rows_once() {
        let repair = repair();
        let datagrams: Vec<Bytes> = symbols(&repair, 8, 250).collect();
        assert!(datagrams.iter().all(|datagram| datagram.len() <= 250));
        let read: Vec<Symbol> = datagrams
            .iter()
            .map(|datagram| Symbol::decode(datagram).unwrap())
            .collect();
        let mut at = 0;
        for symbol in &read {
            assert_eq!((symbol.stream, symbol.at), (8, at));
            at += symbol.pieces.len() / PIECE;
        }
        let rows: Vec<Bytes> = read.iter().map(|symbol| symbol.pieces.clone()).collect();
        assert_eq!(rows.concat(), repair.rows);
        let total: usize = datagrams.iter().map(Bytes::len).sum();
        assert_eq!(total, repair.datagram_bytes(250));
    }

    #[test]
    fn a_datagram_that_holds_no_piece_carries_no_repair() {
        assert_eq!(symbols(&repair(), 0, HEADER_BYTES + PIECE - 1).count(), 0);
    }

    #[test]
    fn each_kind_of_nonsense_is_refused() {
        let good = symbols(&repair(), 4, 200).next().unwrap();
        let changed = |at: usize, to: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = to;
            Symbol::decode(&bytes.into()).unwrap_err()
        };
        let decode = |bytes: &[u8]| Symbol::decode(&Bytes::copy_from_slice(bytes)).unwrap_err();
        assert_eq!(decode(&[]), SymbolError::Kind { got: None });
        assert_eq!(decode(&[0]), SymbolError::Kind { got: Some(0) });
        assert_eq!(decode(&good[..21]), SymbolError::Short { got: 21 });
        assert_eq!(decode(&good[..22]), SymbolError::Pieces { got: 0 });
        assert_eq!(decode(&good[..100]), SymbolError::Pieces { got: 78 });
        assert!(matches!(changed(1, 0), SymbolError::Shape { .. }));
        assert!(matches!(changed(2, 200), SymbolError::Shape { .. }));
        assert!(matches!(changed(6, 200), SymbolError::Shape { .. }));
        let (end, pieces) = (7, 6);
        assert_eq!(changed(5, 5), SymbolError::Place { end, pieces });
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Symbol::decode(&bytes.into());
        }

        #[test]
        fn what_is_read_is_what_was_written(
            head in proptest::collection::vec(any::<u8>(), 21),
            pieces in 0usize..4,
        ) {
            let bytes: Bytes = [vec![KIND], head, vec![9; pieces * PIECE]].concat().into();
            if let Ok(symbol) = Symbol::decode(&bytes) {
                prop_assert_eq!(symbol.encode(), bytes);
            }
        }
    }
}
