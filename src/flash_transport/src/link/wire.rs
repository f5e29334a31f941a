//! The bytes of a stream and their meaning. No sockets, no clock; `docs/protocol.md` describes the
//! same.

use std::fmt;

use crate::codec::{CodecError, Limits, Value};

/// Name and version of the protocol, agreed on in the TLS handshake.
pub const ALPN: &[u8] = b"openpi-flash/1";

/// First byte of an answer that holds a result.
pub const ANSWER_OK: u8 = 0x00;
/// First byte of an answer that holds a [`Failure`].
pub const ANSWER_ERROR: u8 = 0x01;

/// First byte of the first actions, ahead of an answer; see [`super::first_actions`].
pub const ANSWER_FIRST: u8 = 0x02;

/// First byte of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Introduces the client; answered with the server's metadata.
    Hello = 0x01,
    /// An observation; answered with actions.
    Infer = 0x02,
    /// The episode ended; answered with an empty map.
    Reset = 0x03,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Hello, Kind::Infer, Kind::Reset];

    pub const fn byte(self) -> u8 {
        self as u8
    }

    pub fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.byte() == byte)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Kind::Hello => "hello",
            Kind::Infer => "infer",
            Kind::Reset => "reset",
        }
    }
}

/// Why a request failed. The names are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The client's fault: the same request will fail again.
    BadRequest,
    /// A hello with a missing or wrong api key.
    Unauthenticated,
    /// A newer observation of the same session took this one's place.
    Superseded,
    /// The request's own deadline passed before it was answered.
    DeadlineExceeded,
    /// The server cannot take this now and may later: it warms up, shuts down, or is out of room.
    NotReady,
    /// The server's fault.
    Internal,
}

impl ErrorCode {
    pub const ALL: [ErrorCode; 6] = [
        ErrorCode::BadRequest,
        ErrorCode::Unauthenticated,
        ErrorCode::Superseded,
        ErrorCode::DeadlineExceeded,
        ErrorCode::NotReady,
        ErrorCode::Internal,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::Unauthenticated => "unauthenticated",
            ErrorCode::Superseded => "superseded",
            ErrorCode::DeadlineExceeded => "deadline_exceeded",
            ErrorCode::NotReady => "not_ready",
            ErrorCode::Internal => "internal",
        }
    }

    pub fn from_name(name: &str) -> Option<ErrorCode> {
        ErrorCode::ALL.into_iter().find(|code| code.name() == name)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The map of an answer that starts with [`ANSWER_ERROR`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of [`ErrorCode`], or an unknown code of a newer server.
    pub code: String,
    pub message: String,
}

impl Failure {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code: code.name().to_owned(),
            message: message.into(),
        }
    }

    /// The whole answer, first byte included.
    pub fn encode(&self) -> Vec<u8> {
        let map = Value::Map(vec![
            ("code".into(), self.code.as_str().into()),
            ("message".into(), shortened(&self.message).into()),
        ]);
        let mut answer = vec![ANSWER_ERROR];
        // Cannot fail for two short texts.
        answer.extend(map.encode().unwrap_or_default());
        answer
    }

    /// Parse what follows the first byte.
    pub fn decode(map: &[u8]) -> Result<Self, CodecError> {
        let value = Value::decode(map, SMALL_MAP)?;
        let text = |name| value.get(name).and_then(Value::as_text).unwrap_or_default();
        Ok(Self {
            code: match text("code") {
                "" => ErrorCode::Internal.name().to_owned(),
                code => code.to_owned(),
            },
            message: text("message").to_owned(),
        })
    }
}

/// Decoding limits of a hello or a failure.
pub(crate) const SMALL_MAP: Limits = Limits {
    bytes: 64 << 10,
    depth: 8,
    values: 1024,
    containers: 1024,
};

/// Longest message of a [`Failure`]: enough for a traceback, not for an image.
const MAX_MESSAGE: usize = 32 << 10;

fn shortened(message: &str) -> &str {
    let mut end = message.len().min(MAX_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_code_survives_its_way_over_the_wire() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_byte(kind.byte()), Some(kind));
        }
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_name(code.name()), Some(code));
        }
        assert_eq!(Kind::from_byte(0x00), None);
        assert_eq!(ErrorCode::from_name("teapot"), None);
    }

    #[test]
    fn a_failure_survives_its_way_over_the_wire() {
        let failure = Failure::new(ErrorCode::BadRequest, "no key \"prompt\"");
        let answer = failure.encode();
        assert_eq!(answer[0], ANSWER_ERROR);
        assert_eq!(Failure::decode(&answer[1..]), Ok(failure));
    }

    #[test]
    fn a_failure_without_a_code_is_the_servers_fault() {
        assert_eq!(
            Failure::decode(&[0x80]),
            Ok(Failure::new(ErrorCode::Internal, ""))
        );
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let failure = Failure::new(ErrorCode::Internal, "é".repeat(MAX_MESSAGE));
        let answer = failure.encode();
        let read = Failure::decode(&answer[1..]).unwrap();
        assert_eq!(read.message.len(), MAX_MESSAGE);
        assert!(failure.message.starts_with(&read.message));
    }
}
