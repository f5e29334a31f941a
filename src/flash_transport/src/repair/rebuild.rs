//! The receiving end: a message of which parts are missing, and its repair.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use reed_solomon_simd::engine::{DefaultEngine, Engine};

use super::code::encode;
use super::field::{factor, Field, Inverse};
use super::ranges::Ranges;
use super::shape::{Shape, LANES, PIECE};
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

/// A message on its way.
#[derive(Debug)]
pub struct Partial {
    /// Zero where nothing has arrived.
    bytes: Buffer,
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
    /// `bytes` are the first ones of the message.
    pub fn new(bytes: Buffer) -> Self {
        let mut received = Ranges::default();
        received.insert(0..bytes.len());
        Self {
            received_end: bytes.len(),
            bytes,
            received,
            repair: Received::Nothing,
        }
    }

    /// Bytes of memory that [`Partial::place`] would add.
    pub fn growth(&self, offset: usize, length: usize) -> usize {
        (offset + length).saturating_sub(self.bytes.len())
    }

    /// Bytes that only repair has brought, behind all that arrived.
    pub fn rebuilt_bytes(&self) -> usize {
        self.bytes.len() - self.received_end
    }

    /// Note bytes of the stream.
    pub fn place(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.bytes.len() {
            let more = end - self.bytes.len();
            if self.bytes.capacity() < end {
                self.bytes.reserve(more.max(self.bytes.len()));
            }
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        self.received.insert(offset..end);
        self.received_end = self.received_end.max(end);
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

    /// The message, for a stream that has ended.
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
        let gaps: Vec<Range<usize>> = self.received.missing(length).collect();
        let Some(plan) = Plan::new(*shape, &gaps, pieces) else {
            return Ok(false);
        };
        self.bytes.resize(length, 0);
        plan.fill(&mut self.bytes);
        if crc32fast::hash(&self.bytes) != *check {
            self.repair = Received::Distrusted;
            self.bytes.truncate(self.received.end());
            return Err(RebuildError::Digest);
        }
        self.received.insert(0..length);
        Ok(true)
    }
}

/// Part of a piece of a row that is missing: lanes whose low and whose high byte is.
#[derive(Debug, Clone, Copy)]
struct Hole {
    row: usize,
    low: u32,
    high: u32,
}

/// What is missing in a column of pieces, and the rows of repair that are there.
#[derive(Default)]
struct Column<'a> {
    holes: Vec<Hole>,
    repair: Vec<(usize, &'a [u8])>,
}

/// How to fill all gaps.
struct Plan<'a> {
    shape: Shape,
    columns: Vec<Column<'a>>,
}

impl<'a> Plan<'a> {
    /// `None`: there is too little repair.
    fn new(shape: Shape, gaps: &[Range<usize>], pieces: &'a [(usize, Bytes)]) -> Option<Self> {
        let width = shape.row_pieces();
        let mut columns: Vec<Column> = Vec::new();
        columns.resize_with(width, Column::default);
        for gap in gaps {
            for piece in gap.start / PIECE..=(gap.end - 1) / PIECE {
                let from = gap.start.max(piece * PIECE) - piece * PIECE;
                let to = gap.end.min((piece + 1) * PIECE) - piece * PIECE;
                let column = &mut columns[piece % width];
                let row = piece / width;
                let low = lanes(from, to);
                let high = lanes(from.saturating_sub(LANES), to.saturating_sub(LANES));
                match column.holes.last_mut().filter(|hole| hole.row == row) {
                    Some(hole) => {
                        hole.low |= low;
                        hole.high |= high;
                    }
                    None => column.holes.push(Hole { row, low, high }),
                }
            }
        }
        // Datagrams of a hostile sender may overlap.
        let mut is_there = vec![false; shape.repair_bytes() / PIECE];
        for (at, bytes) in pieces {
            for (index, piece) in bytes.chunks_exact(PIECE).enumerate() {
                let place = at + index;
                match is_there.get_mut(place) {
                    Some(is_there) if !*is_there => *is_there = true,
                    _ => continue,
                }
                let (row, column) = (place / width, &mut columns[place % width]);
                column.repair.push((row, piece));
            }
        }
        let is_enough = columns.iter().all(|column| {
            let missing = |lane| column.holes.iter().filter(|hole| hole.misses(lane)).count();
            let all = column.holes.len();
            let most = LANES * column.repair.len();
            all <= column.repair.len()
                || all <= most && (0..LANES as u32).all(|lane| missing(lane) <= column.repair.len())
        });
        is_enough.then_some(Self { shape, columns })
    }

    /// Fill the gaps of `message`, which are zero.
    fn fill(&self, message: &mut [u8]) {
        if self.columns.iter().all(|column| column.holes.is_empty()) {
            return;
        }
        // What repair would be if the gaps were zeros: the difference to what it is comes from them.
        let Ok(of_zeros) = encode(self.shape, [&*message]) else {
            return;
        };
        let mut solver = Solver {
            engine: DefaultEngine::new(),
            field: Field::new(),
            chunk_rows: self.shape.chunk_rows(),
            scales: HashMap::new(),
            last: None,
        };
        let row_bytes = self.shape.row_bytes();
        for (number, column) in self.columns.iter().enumerate() {
            if column.holes.is_empty() {
                continue;
            }
            let differences: Vec<[u8; PIECE]> = column
                .repair
                .iter()
                .map(|(row, piece)| {
                    let start = row * row_bytes + number * PIECE;
                    std::array::from_fn(|i| piece[i] ^ of_zeros[start + i])
                })
                .collect();
            for (holes, group) in column.groups() {
                let differences = &differences[..holes.len()];
                solver.solve(column, differences, &holes, group, |hole, lane, bytes| {
                    let start = hole.row * row_bytes + number * PIECE + lane as usize;
                    let [low, high] = bytes;
                    for (mask, at, byte) in
                        [(hole.low, start, low), (hole.high, start + LANES, high)]
                    {
                        if mask >> lane & 1 == 1 {
                            message[at] = byte;
                        }
                    }
                });
            }
        }
    }
}

impl Hole {
    fn misses(&self, lane: u32) -> bool {
        (self.low | self.high) >> lane & 1 == 1
    }
}

impl Column<'_> {
    /// Neighbouring lanes that miss the same rows, as a mask, with the indices of their holes.
    fn groups(&self) -> Vec<(Vec<usize>, u32)> {
        let mut groups: Vec<(Vec<usize>, u32)> = Vec::new();
        for lane in 0..LANES as u32 {
            let differs = |hole: &Hole| hole.misses(lane) != hole.misses(lane - 1);
            match groups.last_mut() {
                Some((_, lanes)) if !self.holes.iter().any(differs) => *lanes |= 1 << lane,
                _ => {
                    let missing = self.holes.iter().enumerate();
                    let missing = missing.filter(|(_, hole)| hole.misses(lane));
                    groups.push((missing.map(|(index, _)| index).collect(), 1 << lane));
                }
            }
        }
        groups
    }
}

/// Rows of the message that are missing, and rows of repair in their place.
type Rows = (Vec<usize>, Vec<usize>);

struct Solver {
    engine: DefaultEngine,
    field: Field,
    chunk_rows: usize,
    /// Of the missing rows so far.
    scales: HashMap<usize, u32>,
    /// Neighbouring columns mostly miss the same rows.
    last: Option<(Rows, Inverse)>,
}

impl Solver {
    fn solve(
        &mut self,
        column: &Column,
        differences: &[[u8; PIECE]],
        holes: &[usize],
        lanes: u32,
        mut write: impl FnMut(&Hole, u32, [u8; 2]),
    ) {
        if holes.is_empty() {
            return;
        }
        let missing: Vec<usize> = holes.iter().map(|index| column.holes[*index].row).collect();
        let used: Vec<usize> = column.repair[..holes.len()].iter().map(|r| r.0).collect();
        let rows = (missing, used);
        if self.last.as_ref().is_none_or(|(of, _)| *of != rows) {
            let (field, chunk_rows) = (self.field, self.chunk_rows);
            let scale = |row: &usize| {
                let known = self.scales.entry(*row);
                *known.or_insert_with(|| factor(field, chunk_rows, *row))
            };
            let scales: Vec<u32> = rows.0.iter().map(scale).collect();
            let inverse = Inverse::new(field, chunk_rows, &rows.0, &scales, &rows.1);
            self.last = Some((rows, inverse));
        }
        let Some((_, inverse)) = &self.last else {
            return;
        };
        for (index, hole) in holes.iter().enumerate() {
            let mut sum = [0; PIECE];
            for (difference, factor) in differences.iter().zip(inverse.row(index)) {
                let mut term = [*difference];
                self.engine.mul(&mut term, *factor);
                for (sum, term) in sum.iter_mut().zip(term[0]) {
                    *sum ^= term;
                }
            }
            for lane in (0..LANES as u32).filter(|lane| lanes >> lane & 1 == 1) {
                let at = lane as usize;
                write(&column.holes[*hole], lane, [sum[at], sum[at + LANES]]);
            }
        }
    }
}

/// A bit for each of the first [`LANES`] numbers in a range.
fn lanes(from: usize, to: usize) -> u32 {
    let below = |end: usize| match end {
        LANES.. => u32::MAX,
        end => (1 << end) - 1,
    };
    below(to) & !below(from)
}

#[cfg(test)]
mod tests {
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
        let mut partial = Partial::new(Buffer::default());
        let packets = packets(&message, 1_411);
        assert_eq!(packets.len(), 321);
        for symbol in repaired(&message, 1_411, lost.len()) {
            partial.add(symbol).unwrap();
        }
        for (number, (offset, bytes)) in packets.iter().enumerate() {
            if !lost.contains(&number) {
                assert_eq!(partial.rebuild(), Ok(false), "before packet {number}");
                partial.place(*offset, bytes);
            }
        }
        assert_eq!(partial.rebuild(), Ok(true));
        assert!(*partial.into_bytes() == message);
    }

    #[test]
    fn too_little_repair_waits_for_a_retransmission() {
        let message = message(100_000);
        let mut partial = Partial::new(Buffer::default());
        let packets = packets(&message, 1_400);
        for symbol in repaired(&message, 1_400, 2) {
            partial.add(symbol).unwrap();
        }
        for (offset, bytes) in &packets[3..] {
            partial.place(*offset, bytes);
        }
        assert_eq!(partial.rebuild(), Ok(false));
        partial.place(packets[1].0, &packets[1].1);
        assert_eq!(partial.rebuild(), Ok(true));
        assert!(*partial.into_bytes() == message);
    }

    #[test]
    fn wrong_symbols_leave_the_stream_as_it_is() {
        let message = message(10_000);
        let good = repaired(&message, 1_400, 2);
        let spoil = |change: &dyn Fn(&mut Symbol)| {
            let mut partial = Partial::new(Buffer::default());
            let mut outcome = Ok(false);
            for symbol in &good {
                let mut symbol = symbol.clone();
                change(&mut symbol);
                outcome = outcome.and(partial.add(symbol).map(|()| false));
            }
            let packets = packets(&message, 1_400);
            for (offset, bytes) in &packets[1..] {
                partial.place(*offset, bytes);
                outcome = outcome.and_then(|_| partial.rebuild());
            }
            partial.place(0, &packets[0].1);
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
    fn a_stream_that_is_longer_than_its_repair_says_is_read_to_its_end() {
        let message = message(10_000);
        let mut partial = Partial::new(Buffer::default());
        for symbol in repaired(&message.slice(..9_000), 1_400, 2) {
            partial.add(symbol).unwrap();
        }
        for (offset, bytes) in packets(&message, 1_400) {
            partial.place(offset, &bytes);
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
        ) {
            let message = message(length);
            let packets = packets(&message, payload);
            let lost: std::collections::BTreeSet<usize> =
                lost.iter().map(|index| index.index(packets.len())).collect();
            let mut symbols = repaired(&message, payload, rows);
            let rows = symbols[0].shape.repair_rows();
            let kept = symbols.len().saturating_sub(lost_symbols);
            symbols.truncate(kept);
            let mut partial = Partial::new(Buffer::default());
            let is_late = |number: usize| order >> (number % 64) & 1 == 1;
            for (number, (offset, bytes)) in packets.iter().enumerate() {
                if !lost.contains(&number) && !is_late(number) {
                    partial.place(*offset, bytes);
                }
            }
            for symbol in symbols {
                partial.add(symbol).unwrap();
            }
            for (number, (offset, bytes)) in packets.iter().enumerate() {
                if !lost.contains(&number) && is_late(number) {
                    partial.place(*offset, bytes);
                }
            }
            let is_whole = partial.rebuild().unwrap();
            if lost_symbols == 0 && lost.len() <= rows {
                prop_assert!(is_whole);
            }
            if is_whole {
                prop_assert!(*partial.into_bytes() == message);
            } else {
                for (number, (offset, bytes)) in packets.iter().enumerate() {
                    if lost.contains(&number) {
                        partial.place(*offset, bytes);
                    }
                }
                prop_assert!(*partial.into_bytes() == message);
            }
        }

        #[test]
        fn symbols_of_any_kind_neither_panic_nor_change_what_arrived(
            symbols in proptest::collection::vec(
                (1usize..9_000, 1usize..30, 1usize..12, 0usize..400, 1usize..25, any::<u8>()), 1..12),
            parts in proptest::collection::vec((0usize..8_000, 1usize..2_000), 1..8),
        ) {
            let mut partial = Partial::new(Buffer::default());
            for (message, width, rows, at, pieces, byte) in symbols {
                let Some(shape) = Shape::new(message, width, rows) else { continue };
                let pieces = vec![byte; pieces * PIECE].into();
                let _ = partial.add(Symbol { stream: 0, shape, check: 0, at, pieces });
                let _ = partial.rebuild();
            }
            let mut expected = std::collections::BTreeMap::new();
            for (offset, length) in parts {
                let bytes: Vec<u8> = (offset..offset + length).map(|i| i as u8).collect();
                partial.place(offset, &bytes);
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
