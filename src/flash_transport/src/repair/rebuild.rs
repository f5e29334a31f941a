//! The receiving end: a message of which parts are missing, and its repair.

use bytes::Bytes;

use super::ranges::Ranges;
use super::shape::Shape;
use super::solve::Plan;
use super::symbol::Symbol;
use crate::buffers::Buffer;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    #[error("the message that repair makes has another digest than its sender's")]
    Digest,
    #[error("symbols of one message describe two")]
    Contradiction,
    #[error("the stream goes on behind the end of the message that repair describes")]
    Length,
}

/// The message arrives in more parts with gaps between them than a path makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message arrives in more than {MOST_PARTS} parts")]
pub struct Scattered;

/// Most parts with gaps between them: each takes memory, here and in quinn. The largest message with
/// repair has 3,700 packets of 1,200 bytes, so that no path leaves more.
const MOST_PARTS: usize = 2_000;

/// A message on its way.
#[derive(Debug)]
pub struct Partial {
    /// The first bytes of the message, which its reader has taken for itself.
    begin: Vec<u8>,
    /// Those behind them. Zero where nothing has arrived.
    bytes: Buffer,
    /// Of the whole message.
    received: Ranges,
    /// The end of what has arrived.
    received_end: usize,
    repair: Received,
}

#[derive(Debug)]
enum Received {
    Nothing,
    Some {
        shape: Shape,
        check: u32,
        /// Their place in the rows of repair, in pieces.
        pieces: Vec<(usize, Bytes)>,
        bytes: usize,
    },
    /// What came was wrong; whatever comes is ignored.
    Distrusted,
}

impl Partial {
    /// Of the message, `begin` has arrived, and then `bytes`. Only those behind `begin` are kept for
    /// [`Partial::into_bytes`].
    pub fn new(begin: &[u8], bytes: Buffer) -> Self {
        let mut received = Ranges::default();
        let received_end = begin.len() + bytes.len();
        received.insert(0..received_end);
        Self {
            begin: begin.to_vec(),
            bytes,
            received,
            received_end,
            repair: Received::Nothing,
        }
    }

    /// Bytes of memory that [`Partial::place`] would add.
    pub fn growth(&self, offset: usize, length: usize) -> usize {
        (offset + length).saturating_sub(self.end())
    }

    /// Bytes that only repair has brought, behind all that arrived.
    pub fn rebuilt_bytes(&self) -> usize {
        self.end() - self.received_end
    }

    fn end(&self) -> usize {
        self.begin.len() + self.bytes.len()
    }

    /// Note bytes of the stream. Those of `begin` may come again: a copy that arrived before they were
    /// read.
    pub fn place(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Scattered> {
        let end = offset + bytes.len();
        self.received.insert(offset..end);
        if self.received.count() > MOST_PARTS {
            return Err(Scattered);
        }
        self.received_end = self.received_end.max(end);
        let again = self.begin.len().saturating_sub(offset).min(bytes.len());
        let bytes = &bytes[again..];
        let at = (offset + again).saturating_sub(self.begin.len());
        let more = (at + bytes.len()).saturating_sub(self.bytes.len());
        if self.bytes.capacity() - self.bytes.len() < more {
            self.bytes.reserve(more.max(self.bytes.len()));
        }
        if at > self.bytes.len() {
            self.bytes.resize(at, 0);
        }
        let known = bytes.len() - more.min(bytes.len());
        self.bytes[at..at + known].copy_from_slice(&bytes[..known]);
        self.bytes.extend_from_slice(&bytes[known..]);
        Ok(())
    }

    /// Note a symbol of this message's.
    pub fn add(&mut self, symbol: Symbol) -> Result<(), RebuildError> {
        match &mut self.repair {
            Received::Distrusted => {}
            Received::Nothing => {
                self.repair = Received::Some {
                    shape: symbol.shape,
                    check: symbol.check,
                    bytes: symbol.pieces.len(),
                    pieces: vec![(symbol.at, symbol.pieces)],
                }
            }
            Received::Some {
                shape,
                check,
                pieces,
                bytes,
            } => {
                if (*shape, *check) != (symbol.shape, symbol.check) {
                    self.repair = Received::Distrusted;
                    return Err(RebuildError::Contradiction);
                }
                if pieces.iter().all(|(at, _)| *at != symbol.at) {
                    *bytes += symbol.pieces.len();
                    pieces.push((symbol.at, symbol.pieces));
                }
            }
        }
        Ok(())
    }

    /// The message behind `begin`, for a stream that has ended.
    pub fn into_bytes(self) -> Buffer {
        self.bytes
    }

    /// Whether the message is whole now, by what has arrived and by repair.
    pub fn rebuild(&mut self) -> Result<bool, RebuildError> {
        let Received::Some {
            shape,
            check,
            pieces,
            bytes,
        } = &self.repair
        else {
            return Ok(false);
        };
        let length = shape.message_bytes();
        if self.received.end() > length {
            self.repair = Received::Distrusted;
            return Err(RebuildError::Length);
        }
        if length - self.received.total() > *bytes {
            return Ok(false);
        }
        let Some(plan) = Plan::new(*shape, self.received.missing(length), pieces) else {
            return Ok(false);
        };
        self.bytes.resize(length - self.begin.len(), 0);
        plan.fill(&self.begin, &mut self.bytes);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.begin);
        hasher.update(&self.bytes);
        if hasher.finalize() != *check {
            self.repair = Received::Distrusted;
            self.bytes.truncate(self.received.end() - self.begin.len());
            return Err(RebuildError::Digest);
        }
        self.received.insert(0..length);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::PIECE;
    use super::super::symbol::{symbols, Repair, HEADER_BYTES};
    use super::*;
    use proptest::prelude::*;

    fn message(length: usize) -> Bytes {
        (0..length).map(|i| (i * 31 + i / 251 * 7) as u8).collect()
    }

    /// Packets of a message on a stream: where each begins, and its bytes.
    fn packets(message: &Bytes, payload: usize) -> Vec<(usize, Bytes)> {
        let starts = (0..message.len()).step_by(payload);
        starts
            .map(|start| {
                let end = message.len().min(start + payload);
                (start, message.slice(start..end))
            })
            .collect()
    }

    fn repaired(message: &Bytes, payload: usize, rows: usize) -> Vec<Symbol> {
        let pieces = Shape::row_pieces_for(message.len(), payload);
        let rows = rows.min(message.len().div_ceil(pieces * PIECE));
        let shape = Shape::new(message.len(), pieces, rows).unwrap();
        let repair = Repair::new(shape, std::slice::from_ref(message)).unwrap();
        symbols(&repair, 0, payload + HEADER_BYTES)
            .map(|datagram| Symbol::decode(&datagram).unwrap())
            .collect()
    }

    #[test]
    fn as_many_rows_as_packets_are_lost_rebuild_a_request() {
        let message = message(451_800);
        let lost = [0, 17, 18, 100, 200, 201, 202, 318];
        let mut partial = Partial::new(&[], Buffer::default());
        let packets = packets(&message, 1_411);
        assert_eq!(packets.len(), 321);
        for symbol in repaired(&message, 1_411, lost.len()) {
            partial.add(symbol).unwrap();
        }
        for (number, (offset, bytes)) in packets.iter().enumerate() {
            if !lost.contains(&number) {
                assert_eq!(partial.rebuild(), Ok(false), "before packet {number}");
                partial.place(*offset, bytes).unwrap();
            }
        }
        assert_eq!(partial.rebuild(), Ok(true));
        assert!(*partial.into_bytes() == message);
    }

    #[test]
    fn too_little_repair_waits_for_a_retransmission() {
        let message = message(100_000);
        let mut partial = Partial::new(&[], Buffer::default());
        let packets = packets(&message, 1_400);
        for symbol in repaired(&message, 1_400, 2) {
            partial.add(symbol).unwrap();
        }
        for (offset, bytes) in &packets[3..] {
            partial.place(*offset, bytes).unwrap();
        }
        assert_eq!(partial.rebuild(), Ok(false));
        partial.place(packets[1].0, &packets[1].1).unwrap();
        assert_eq!(partial.rebuild(), Ok(true));
        assert!(*partial.into_bytes() == message);
    }

    #[test]
    fn wrong_symbols_leave_the_stream_as_it_is() {
        let message = message(10_000);
        let good = repaired(&message, 1_400, 2);
        let spoil = |change: &dyn Fn(&mut Symbol)| {
            let mut partial = Partial::new(&[], Buffer::default());
            let mut outcome = Ok(false);
            for symbol in &good {
                let mut symbol = symbol.clone();
                change(&mut symbol);
                outcome = outcome.and(partial.add(symbol).map(|()| false));
            }
            let packets = packets(&message, 1_400);
            for (offset, bytes) in &packets[1..] {
                partial.place(*offset, bytes).unwrap();
                outcome = outcome.and_then(|_| partial.rebuild());
            }
            partial.place(0, &packets[0].1).unwrap();
            assert!(*partial.into_bytes() == message);
            outcome
        };
        assert_eq!(spoil(&|_| {}), Ok(true));
        let digest = Err(RebuildError::Digest);
        assert_eq!(spoil(&|symbol| symbol.check ^= 1), digest);
        let other = |symbol: &mut Symbol| symbol.pieces = vec![1; symbol.pieces.len()].into();
        assert_eq!(spoil(&other), digest);
        let contradiction = Err(RebuildError::Contradiction);
        assert_eq!(
            spoil(&|symbol| symbol.check += symbol.at as u32),
            contradiction
        );
    }

    #[test]
    fn a_copy_of_the_first_packet_is_placed_behind_what_was_read_of_it() {
        let message = message(3_000);
        let mut partial = Partial::new(&message[..2], Buffer::default());
        partial.place(0, &message[..1]).unwrap();
        partial.place(0, &message[..1_400]).unwrap();
        partial.place(1_400, &message[1_400..]).unwrap();
        assert!(*partial.into_bytes() == message[2..]);
    }

    #[test]
    fn a_stream_of_scattered_bytes_is_not_stored_for_ever() {
        let mut partial = Partial::new(&[], Buffer::default());
        let scattered = (0..).step_by(2).map(|at| partial.place(at, b"x"));
        let placed = scattered.take_while(Result::is_ok).count();
        assert_eq!(placed, MOST_PARTS);
    }

    #[test]
    fn a_stream_that_is_longer_than_its_repair_says_is_read_to_its_end() {
        let message = message(10_000);
        let mut partial = Partial::new(&[], Buffer::default());
        for symbol in repaired(&message.slice(..9_000), 1_400, 2) {
            partial.add(symbol).unwrap();
        }
        for (offset, bytes) in packets(&message, 1_400) {
            partial.place(offset, &bytes).unwrap();
        }
        assert_eq!(partial.rebuild(), Err(RebuildError::Length));
        assert!(*partial.into_bytes() == message);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn whatever_is_lost_no_byte_is_wrong_and_enough_repair_rebuilds(
            length in 1usize..20_000,
            payload in 200usize..1_500,
            rows in 1usize..9,
            lost in proptest::collection::vec(any::<prop::sample::Index>(), 0..9),
            lost_symbols in 0usize..3,
            order in any::<u64>(),
            begin in 0usize..3,
        ) {
            let message = message(length);
            let begin = begin.min(length);
            let mut packets = packets(&message, payload);
            packets[0] = (begin, message.slice(begin..payload.min(length)));
            let lost: std::collections::BTreeSet<usize> =
                lost.iter().map(|index| index.index(packets.len())).collect();
            let mut symbols = repaired(&message, payload, rows);
            let rows = symbols[0].shape.repair_rows();
            let kept = symbols.len().saturating_sub(lost_symbols);
            symbols.truncate(kept);
            let mut partial = Partial::new(&message[..begin], Buffer::default());
            let is_late = |number: usize| order >> (number % 64) & 1 == 1;
            for (number, (offset, bytes)) in packets.iter().enumerate() {
                if !lost.contains(&number) && !is_late(number) {
                    partial.place(*offset, bytes).unwrap();
                }
            }
            for symbol in symbols {
                partial.add(symbol).unwrap();
            }
            for (number, (offset, bytes)) in packets.iter().enumerate() {
                if !lost.contains(&number) && is_late(number) {
                    partial.place(*offset, bytes).unwrap();
                }
            }
            let is_whole = partial.rebuild().unwrap();
            if lost_symbols == 0 && lost.len() <= rows {
                prop_assert!(is_whole);
            }
            if is_whole {
                prop_assert!(*partial.into_bytes() == message[begin..]);
            } else {
                for (number, (offset, bytes)) in packets.iter().enumerate() {
                    if lost.contains(&number) {
                        partial.place(*offset, bytes).unwrap();
                    }
                }
                prop_assert!(*partial.into_bytes() == message[begin..]);
            }
        }

        #[test]
        fn symbols_of_any_kind_neither_panic_nor_change_what_arrived(
            symbols in proptest::collection::vec(
                (1usize..9_000, 1usize..30, 1usize..12, 0usize..400, 1usize..25, any::<u8>()), 1..12),
            parts in proptest::collection::vec((0usize..8_000, 1usize..2_000), 1..8),
        ) {
            let mut partial = Partial::new(&[], Buffer::default());
            for (message, width, rows, at, pieces, byte) in symbols {
                let Some(shape) = Shape::new(message, width, rows) else { continue };
                let pieces = vec![byte; pieces * PIECE].into();
                let _ = partial.add(Symbol { stream: 0, shape, check: 0, at, pieces });
                let _ = partial.rebuild();
            }
            let mut expected = std::collections::BTreeMap::new();
            for (offset, length) in parts {
                let bytes: Vec<u8> = (offset..offset + length).map(|i| i as u8).collect();
                partial.place(offset, &bytes).unwrap();
                expected.extend((offset..offset + length).zip(bytes));
                let _ = partial.rebuild();
            }
            let got = partial.into_bytes();
            for (at, byte) in expected {
                prop_assert_eq!(got[at], byte);
            }
        }
    }
}
