//! How a message is cut into rows.

/// The code works on pieces of so many bytes: 32 elements, the low bytes before the high ones.
pub const PIECE: usize = 64;
/// Elements of a piece.
pub const LANES: usize = PIECE / 2;
/// Messages above this have no repair: each end holds about the message once more while it codes.
pub const LARGEST_MESSAGE: usize = 4 << 20;
/// Most rows of repair of a message. Bounds what a peer can make us compute.
pub const MOST_ROWS: usize = 128;
/// Most repair of a message. More has no message that is worth it, and solving it takes long.
pub const MOST_REPAIR: usize = 256 << 10;
/// Rows of the message and of the repair; the field has as many elements.
const MOST_POINTS: usize = 1 << 16;

/// Cut of a message, the same at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    message_bytes: usize,
    /// Of a row, in [`PIECE`]s.
    row_pieces: usize,
    repair_rows: usize,
}

impl Shape {
    /// `None`: no such code.
    pub fn new(message_bytes: usize, row_pieces: usize, repair_rows: usize) -> Option<Self> {
        let shape = Self {
            message_bytes,
            row_pieces,
            repair_rows,
        };
        let sizes_fit = (1..=LARGEST_MESSAGE).contains(&message_bytes)
            && (1..=usize::from(u8::MAX)).contains(&row_pieces)
            && (1..=MOST_ROWS).contains(&repair_rows);
        // A small message must not make a receiver compute much.
        let is_in_proportion = || {
            row_pieces <= message_bytes.div_ceil(PIECE)
                && repair_rows <= shape.rows()
                && shape.repair_bytes() <= MOST_REPAIR
        };
        let has_points = || shape.rows() + shape.chunk_rows() <= MOST_POINTS;
        (sizes_fit && is_in_proportion() && has_points()).then_some(shape)
    }

    /// The pieces of a row that a packet with `payload` bytes of a stream, or fewer, touches once in
    /// each column, wherever it begins; fewer for a message that is shorter than that.
    pub fn row_pieces_for(message_bytes: usize, payload: usize) -> usize {
        let pieces = (payload + LANES).div_ceil(PIECE);
        pieces
            .min(message_bytes.div_ceil(PIECE))
            .clamp(1, usize::from(u8::MAX))
    }

    pub fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    pub fn row_pieces(&self) -> usize {
        self.row_pieces
    }

    pub fn row_bytes(&self) -> usize {
        self.row_pieces * PIECE
    }

    /// Rows of the message; the last one is filled up with zeros.
    pub fn rows(&self) -> usize {
        self.message_bytes.div_ceil(self.row_bytes())
    }

    pub fn repair_rows(&self) -> usize {
        self.repair_rows
    }

    pub fn repair_bytes(&self) -> usize {
        self.repair_rows * self.row_bytes()
    }

    /// Rows that the code takes together; see `docs/protocol.md`.
    pub fn chunk_rows(&self) -> usize {
        self.repair_rows.next_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_no_code_can_do_is_no_shape() {
        assert!(Shape::new(452_000, 23, 12).is_some());
        for (message, pieces, rows) in [
            (0, 1, 1),
            (1, 0, 1),
            (1, 1, 0),
            (LARGEST_MESSAGE + 1, 23, 1),
            (1, 256, 1),
            (LARGEST_MESSAGE, 20, MOST_ROWS + 1),
            (1, 1, 2),
            (64, 2, 1),
            (LARGEST_MESSAGE, 33, 128),
            // 65,536 rows alone are all points that there are.
            (LARGEST_MESSAGE, 1, 1),
        ] {
            assert_eq!(Shape::new(message, pieces, rows), None);
        }
    }

    proptest! {
        #[test]
        fn a_packet_touches_no_element_of_two_rows(payload in 1usize..9_000, start in 0usize..40_000) {
            let row = Shape::row_pieces_for(usize::MAX / 2, payload) * PIECE;
            let element = |byte: usize| (byte % row / PIECE, byte % LANES);
            let mut rows = std::collections::HashMap::new();
            for byte in start..start + payload {
                let first = rows.entry(element(byte)).or_insert(byte / row);
                prop_assert_eq!(*first, byte / row, "byte {}", byte);
            }
        }
    }
}
