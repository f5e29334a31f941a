//! The bytes of a request; those of its deadline are written when it is sent.

use std::time::Duration;

use bytes::Bytes;

use crate::link::first_receiver::FirstReceiver;

/// Key in an observation: the milliseconds after which the answer is useless.
pub const DEADLINE_KEY: &str = "deadline_ms";

/// A request, as it is written to its stream.
#[derive(Debug, Clone)]
pub struct Message {
    /// In order; the first byte is the request's kind.
    parts: Vec<Bytes>,
    /// Whether the parts end with [`DEADLINE_KEY`], whose value is the time left when the request
    /// is sent.
    awaits_deadline: bool,
    errand: Errand,
    /// Steps of the first actions that it asks for.
    first_steps: Option<u32>,
    first: Option<FirstReceiver>,
}

/// The purpose of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// Only to connect.
    Connect,
    /// The answer to the connection's hello; sends nothing itself.
    Meet,
    /// The answer to the message.
    Ask,
}

/// A request in pieces, to be sent in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pieces(Vec<Bytes>);

impl Message {
    pub fn new(message: impl Into<Bytes>) -> Self {
        Self::of_parts(vec![message.into()])
    }

    /// A message whose bytes are in several places.
    pub fn of_parts(parts: Vec<Bytes>) -> Self {
        Self {
            parts,
            awaits_deadline: false,
            errand: Errand::Ask,
            first_steps: None,
            first: None,
        }
    }

    /// No message: only connect.
    pub(super) fn none() -> Self {
        Self {
            errand: Errand::Connect,
            ..Self::of_parts(Vec::new())
        }
    }

    /// No message: wait for the answer to the hello, which each connection sends by itself.
    pub(super) fn hello() -> Self {
        Self {
            errand: Errand::Meet,
            ..Self::of_parts(Vec::new())
        }
    }

    /// `parts` are a message without its last value, the deadline.
    pub fn awaiting_deadline(parts: Vec<Bytes>) -> Self {
        Self {
            awaits_deadline: true,
            ..Self::of_parts(parts)
        }
    }

    /// A message whose parts ask for the first actions of so many steps; for [`Client::submit`].
    ///
    /// [`Client::submit`]: super::Client::submit
    pub fn asking_first(self, steps: u32) -> Self {
        Self {
            first_steps: Some(steps),
            ..self
        }
    }

    pub(super) fn first_steps(&self) -> Option<u32> {
        self.first_steps
    }

    /// The message with a receiver of the first actions that it asks for.
    pub fn with_first(self, receiver: FirstReceiver) -> Self {
        Self {
            first: Some(receiver),
            ..self
        }
    }

    pub(super) fn first(&self) -> Option<&FirstReceiver> {
        self.first.as_ref()
    }

    pub(super) fn errand(&self) -> Errand {
        self.errand
    }

    /// The message to send now, with the time `left` if it has a deadline; `None` means no limit.
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

/// A year: longer than any request.
const NO_END: Duration = Duration::from_secs(365 * 24 * 3600);
/// Sent when no time is left: the server refuses zero as a mistake.
const LEAST_MS: f64 = 0.001;

/// A msgpack float 64: the same length for every value.
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
