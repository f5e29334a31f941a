//! A request's bytes, the last of which are written when it leaves.

use std::time::Duration;

use bytes::Bytes;

/// Key of an observation: after how many milliseconds the answer is of no use any more.
pub const DEADLINE_KEY: &str = "deadline_ms";

/// A request as it goes onto its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One after the other, the byte of the kind first.
    parts: Vec<Bytes>,
    /// The parts end with [`DEADLINE_KEY`], whose value is the time that is left when the request leaves.
    awaits_deadline: bool,
    errand: Errand,
}

/// What an asker wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// A connection.
    Connect,
    /// The answer to the connection's hello, which is no message of its own.
    Meet,
    /// The answer to the message.
    Ask,
}

/// A request in the pieces that are sent one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pieces(Vec<Bytes>);

impl Message {
    pub fn new(message: impl Into<Bytes>) -> Self {
        Self::of_parts(vec![message.into()])
    }

    /// A message that need not lie in one place.
    pub fn of_parts(parts: Vec<Bytes>) -> Self {
        Self {
            parts,
            awaits_deadline: false,
            errand: Errand::Ask,
        }
    }

    /// In place of a message, for who only wants a connection.
    pub(super) fn none() -> Self {
        Self {
            errand: Errand::Connect,
            ..Self::of_parts(Vec::new())
        }
    }

    /// In place of the hello, which each connection says by itself.
    pub(super) fn hello() -> Self {
        Self {
            errand: Errand::Meet,
            ..Self::of_parts(Vec::new())
        }
    }

    /// `parts` are a message up to its last value, which is the deadline's.
    pub fn awaiting_deadline(parts: Vec<Bytes>) -> Self {
        Self {
            awaits_deadline: true,
            ..Self::of_parts(parts)
        }
    }

    pub(super) fn errand(&self) -> Errand {
        self.errand
    }

    /// The message as it is to be sent now. `left` must be given where the message awaits it; no end is a long time.
    pub(crate) fn pieces(&self, left: Option<Duration>) -> Pieces {
        let mut pieces = self.parts.clone();
        if self.awaits_deadline {
            pieces.push(milliseconds(left.unwrap_or(NO_END)));
        }
        Pieces(pieces)
    }
}

impl Pieces {
    pub fn bytes(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub fn as_mut_slice(&mut self) -> &mut [Bytes] {
        &mut self.0
    }
}

impl From<Bytes> for Pieces {
    fn from(whole: Bytes) -> Self {
        Self(vec![whole])
    }
}

/// A year; every request is over by then.
const NO_END: Duration = Duration::from_secs(365 * 24 * 3600);
/// What says that the time is over; zero would be no time at all, which the server refuses as a mistake.
const LEAST_MS: f64 = 0.001;

/// A msgpack float 64, which is as long for every time.
fn milliseconds(left: Duration) -> Bytes {
    let mut value = vec![0xcb];
    let ms = (left.as_secs_f64() * 1000.0).max(LEAST_MS);
    value.extend_from_slice(&ms.to_be_bytes());
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Limits, Value, Writer};

    #[test]
    fn the_time_that_is_left_completes_a_message_that_awaits_it() {
        let mut writer = Writer::new(vec![0x02]);
        writer.map_header(1).unwrap();
        writer.text(DEADLINE_KEY).unwrap();
        let message = Message::awaiting_deadline(vec![writer.into_bytes().into()]);
        for (left, ms) in [
            (Some(Duration::from_micros(62_500)), 62.5),
            (Some(Duration::ZERO), LEAST_MS),
            (None, 31_536_000_000.0),
        ] {
            let mut pieces = message.pieces(left);
            let sent = pieces.as_mut_slice().concat();
            assert_eq!(pieces.bytes(), sent.len());
            let map = Value::decode(&sent[1..], Limits::DEFAULT).unwrap();
            assert_eq!(map.get(DEADLINE_KEY), Some(&Value::Float(ms)));
        }
    }

    #[test]
    fn another_message_is_sent_as_it_is() {
        let whole = Bytes::from_static(&[0x02, 0x80]);
        let mut pieces = Message::new(whole.clone()).pieces(Some(Duration::from_secs(1)));
        assert_eq!(pieces, whole.clone().into());
        assert_eq!(pieces.as_mut_slice(), [whole]);
    }
}
