//! Why a request over a unix socket got no answer.

use std::io;

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    /// The server cannot have seen any of it: safe to send again.
    NotSent(String),
    Lost(String),
    TooLarge,
}

/// A connection's end in words.
pub(super) fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => "the server closed it".to_owned(),
        _ => error.to_string(),
    }
}
