//! Which bytes of a message have arrived.

use std::ops::Range;

/// Ranges of bytes, in order, none of which touches another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range<usize>>);

impl Ranges {
    pub fn insert(&mut self, new: Range<usize>) {
        if new.is_empty() {
            return;
        }
        let ranges = &mut self.0;
        // Bytes mostly arrive in order.
        if let Some(last) = ranges.last_mut().filter(|last| last.end == new.start) {
            last.end = new.end;
            return;
        }
        let first = ranges.partition_point(|range| range.end < new.start);
        let behind = ranges.partition_point(|range| range.start <= new.end);
        let joined = match ranges.get(first..behind) {
            Some([only]) => only.start.min(new.start)..only.end.max(new.end),
            Some([head, .., tail]) => head.start.min(new.start)..tail.end.max(new.end),
            _ => new,
        };
        ranges.splice(first..behind, [joined]);
    }

    /// Those of the first `end` bytes that are in no range.
    pub fn missing(&self, end: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let ends = self.0.iter().map(|range| range.end);
        let starts = self.0.iter().map(|range| range.start);
        let gaps = std::iter::once(0).chain(ends).zip(starts.chain([end]));
        gaps.map(move |(from, to)| from.min(end)..to.min(end))
            .filter(|gap| !gap.is_empty())
    }

    /// Bytes in all ranges.
    pub fn total(&self) -> usize {
        self.0.iter().map(ExactSizeIterator::len).sum()
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The end of the last range.
    pub fn end(&self) -> usize {
        self.0.last().map_or(0, |range| range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_a_set_of_bytes(
            parts in proptest::collection::vec((0usize..60, 0usize..12), 0..20),
        ) {
            let mut ranges = Ranges::default();
            let mut bytes = [false; 72];
            for (start, length) in parts {
                ranges.insert(start..start + length);
                bytes[start..start + length].fill(true);
            }
            prop_assert_eq!(ranges.total(), bytes.iter().filter(|byte| **byte).count());
            let end = bytes.iter().rposition(|byte| *byte).map_or(0, |last| last + 1);
            prop_assert_eq!(ranges.end(), end);
            for end in [30, 72] {
                let mut missing = [false; 72];
                for gap in ranges.missing(end) {
                    missing[gap].fill(true);
                }
                for byte in 0..72 {
                    prop_assert_eq!(missing[byte], byte < end && !bytes[byte]);
                }
            }
            for pair in ranges.0.windows(2) {
                prop_assert!(pair[0].end < pair[1].start);
            }
        }
    }
}
