//! Fills the gaps of a message from its repair.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use reed_solomon_simd::engine::{DefaultEngine, Engine};

use super::code::encode;
use super::field::{factor, Field, Inverse};
use super::shape::{Shape, LANES, PIECE};

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
pub struct Plan<'a> {
    shape: Shape,
    columns: Vec<Column<'a>>,
}

impl<'a> Plan<'a> {
    /// `gaps` are in order, and each of the `pieces` has its place in the rows of repair. `None`: there
    /// is too little repair.
    pub fn new(
        shape: Shape,
        gaps: impl IntoIterator<Item = Range<usize>>,
        pieces: &'a [(usize, Bytes)],
    ) -> Option<Self> {
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

    /// Fill the gaps, which are zero, of the message that is `begin` and then `bytes`. None of them is
    /// in `begin`.
    pub fn fill(&self, begin: &[u8], bytes: &mut [u8]) {
        if self.columns.iter().all(|column| column.holes.is_empty()) {
            return;
        }
        // What repair would be if the gaps were zeros: the difference to what it is comes from them.
        let Ok(of_zeros) = encode(self.shape, [begin, &*bytes]) else {
            return;
        };
        let row_bytes = self.shape.row_bytes();
        let mut solver = Solver {
            engine: DefaultEngine::new(),
            field: Field::new(),
            chunk_rows: self.shape.chunk_rows(),
            scales: HashMap::new(),
        };
        let mut differences = Vec::new();
        for system in self.systems() {
            differences.clear();
            for (index, row) in system.used.iter().enumerate() {
                for part in &system.parts {
                    let (_, piece) = self.columns[part.column].repair[index];
                    let start = row * row_bytes + part.column * PIECE;
                    differences.push(std::array::from_fn(|i| piece[i] ^ of_zeros[start + i]));
                }
            }
            solver.solve(&system, &differences, |part, index, piece| {
                let hole = &self.columns[part.column].holes[part.holes[index]];
                let start = hole.row * row_bytes + part.column * PIECE;
                // Its bytes before `begin` ends are no gap.
                let mut write = |mask: u32, half: usize| {
                    let mask = mask & part.lanes;
                    for lane in (0..LANES).filter(|lane| mask >> lane & 1 == 1) {
                        let at = half + lane;
                        if let Some(byte) = (start + at)
                            .checked_sub(begin.len())
                            .and_then(|place| bytes.get_mut(place))
                        {
                            *byte = piece[at];
                        }
                    }
                };
                write(hole.low, 0);
                write(hole.high, LANES);
            });
        }
    }

    /// The systems of equations to solve: neighbouring lanes and columns mostly miss the same rows.
    fn systems(&self) -> Vec<System> {
        let mut systems: Vec<System> = Vec::new();
        for (number, column) in self.columns.iter().enumerate() {
            for (holes, lanes) in column.groups() {
                if holes.is_empty() {
                    continue;
                }
                let missing = holes.iter().map(|index| column.holes[*index].row);
                let used = column.repair.iter().map(|(row, _)| *row).take(holes.len());
                let part = Part {
                    column: number,
                    lanes,
                    holes: holes.clone(),
                };
                let same = systems.last_mut().filter(|last| {
                    last.missing.iter().copied().eq(missing.clone())
                        && last.used.iter().copied().eq(used.clone())
                });
                match same {
                    Some(last) => last.parts.push(part),
                    None => systems.push(System {
                        missing: missing.collect(),
                        used: used.collect(),
                        parts: vec![part],
                    }),
                }
            }
        }
        systems
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

/// Rows of the message that are missing, as many rows of repair in their place, and where.
struct System {
    missing: Vec<usize>,
    used: Vec<usize>,
    parts: Vec<Part>,
}

/// Lanes of a column, and its holes in the order of the missing rows.
struct Part {
    column: usize,
    lanes: u32,
    holes: Vec<usize>,
}

struct Solver {
    engine: DefaultEngine,
    field: Field,
    chunk_rows: usize,
    /// Of the missing rows so far.
    scales: HashMap<usize, u32>,
}

impl Solver {
    /// `differences` are those of the used rows one after the other, each of a piece for each part;
    /// `write` gets the pieces of the missing rows, by their index.
    fn solve(
        &mut self,
        system: &System,
        differences: &[[u8; PIECE]],
        mut write: impl FnMut(&Part, usize, &[u8; PIECE]),
    ) {
        let (field, chunk_rows) = (self.field, self.chunk_rows);
        let scale = |row: &usize| {
            let known = self.scales.entry(*row);
            *known.or_insert_with(|| factor(field, chunk_rows, *row))
        };
        let scales: Vec<u32> = system.missing.iter().map(scale).collect();
        let inverse = Inverse::new(field, chunk_rows, &system.missing, &scales, &system.used);
        let width = system.parts.len();
        let mut sum = vec![[0; PIECE]; width];
        let mut term = vec![[0; PIECE]; width];
        for index in 0..system.missing.len() {
            sum.fill([0; PIECE]);
            for (row, factor) in differences.chunks_exact(width).zip(inverse.row(index)) {
                term.copy_from_slice(row);
                self.engine.mul(&mut term, *factor);
                let bytes = sum.as_flattened_mut().iter_mut();
                for (sum, term) in bytes.zip(term.as_flattened()) {
                    *sum ^= term;
                }
            }
            for (part, piece) in system.parts.iter().zip(&sum) {
                write(part, index, piece);
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
