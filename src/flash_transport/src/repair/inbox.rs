//! Repair that has arrived and is not taken yet.

use std::collections::VecDeque;

use bytes::Bytes;

use super::symbol::Symbol;

/// Most bytes that a connection holds for streams that have not asked. Repair may overtake its
/// message, or come after it is whole; what a path of 5 % loss adds to three raw 640x480 images fits.
const MOST_BYTES: usize = 256 << 10;
/// What a symbol takes besides its pieces.
const SYMBOL_BYTES: usize = size_of::<Symbol>();

/// Of one connection. The oldest stream's repair gives way.
#[derive(Debug, Default)]
pub struct Inbox {
    held: VecDeque<(u64, Vec<Symbol>)>,
    bytes: usize,
}

impl Inbox {
    pub fn put(&mut self, mut symbol: Symbol) {
        // A packet's memory is larger than the symbol.
        symbol.pieces = Bytes::copy_from_slice(&symbol.pieces);
        self.bytes += weight(&symbol);
        let place = self.held.iter().position(|(of, _)| *of == symbol.stream);
        match place.and_then(|place| self.held.get_mut(place)) {
            Some((_, symbols)) => symbols.push(symbol),
            None => self.held.push_back((symbol.stream, vec![symbol])),
        }
        while self.bytes > MOST_BYTES {
            let Some((_, symbols)) = self.held.pop_front() else {
                break;
            };
            self.bytes -= symbols.iter().map(weight).sum::<usize>();
        }
    }

    /// Whether something has arrived for the stream.
    pub fn holds(&self, stream: u64) -> bool {
        self.held.iter().any(|(of, _)| *of == stream)
    }

    /// What has arrived for the stream since it was last asked for.
    pub fn take(&mut self, stream: u64) -> Vec<Symbol> {
        let Some(place) = self.held.iter().position(|(of, _)| *of == stream) else {
            return Vec::new();
        };
        let (_, symbols) = self.held.remove(place).unwrap_or_default();
        self.bytes -= symbols.iter().map(weight).sum::<usize>();
        symbols
    }
}

fn weight(symbol: &Symbol) -> usize {
    symbol.pieces.len() + SYMBOL_BYTES
}

#[cfg(test)]
mod tests {
    use super::super::shape::{Shape, PIECE};
    use super::*;
    use proptest::prelude::*;

    fn symbol(stream: u64, pieces: usize) -> Symbol {
        Symbol {
            stream,
            shape: Shape::new(100_000, 20, 8).unwrap(),
            check: 0,
            at: 0,
            pieces: vec![0; pieces * PIECE].into(),
        }
    }

    #[test]
    fn a_stream_takes_its_own_and_once() {
        let mut inbox = Inbox::default();
        for stream in [4, 0, 4] {
            inbox.put(symbol(stream, 1));
        }
        assert!(inbox.holds(4) && !inbox.holds(8));
        assert_eq!(inbox.take(4).len(), 2);
        assert_eq!(inbox.take(4).len(), 0);
        assert_eq!(inbox.take(0).len(), 1);
        assert_eq!(inbox.bytes, 0);
    }

    proptest! {
        #[test]
        fn a_flood_is_bounded_and_the_newest_stays(
            flood in proptest::collection::vec((0u64..2_000, 1usize..22), 1..600),
        ) {
            let mut inbox = Inbox::default();
            for (stream, pieces) in &flood {
                inbox.put(symbol(*stream, *pieces));
                prop_assert!(inbox.bytes <= MOST_BYTES);
                let held: usize = inbox.held.iter().flat_map(|(_, symbols)| symbols).map(weight).sum();
                prop_assert_eq!(held, inbox.bytes);
            }
        }
    }
}
