//! Forward error correction: a receiver rebuilds the packets that a message lost, without a round
//! trip.
//!
//! A sender on a path that loses packets sends repair symbols with a message, in QUIC datagrams. A
//! receiver that has as many of them as it misses rebuilds the message at once. QUIC retransmits as
//! ever, for when there are too few.
//!
//! A message is a column of rows of some bytes, and the code works on each column of elements by
//! itself. A packet's bytes are less than a row, so that a lost packet costs each column one element
//! at most, wherever the packet began: one row of repair for each lost packet is enough, though
//! neither end knows how QUIC cuts the message. `docs/protocol.md` has the format.
//!
//! Pure: no sockets, no clock. `tests/simulation` measures what it is worth.

mod code;
mod demand;
mod field;
mod inbox;
mod ranges;
mod rebuild;
mod shape;
mod solve;
mod symbol;

pub use code::{encode, CodeError};
pub use demand::{Demand, Need, PathLoss};
pub use inbox::Inbox;
pub use rebuild::{Partial, RebuildError, Scattered};
pub use shape::{Shape, LARGEST_MESSAGE, MOST_REPAIR, MOST_ROWS};
pub use symbol::{symbols, Repair, Symbol, SymbolError, HEADER_BYTES};
