//! Why a request over a unix socket got no answer.

use std::io;

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    /// The server has seen none of it: it is safe to send it again.
    NotSent(String),
    Lost(String),
    /// The answer is not valid.
    Bad(String),
    TooLarge,
}

/// The end of a connection in words.
pub(super) fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => "the server closed it".to_owned(),
        _ => error.to_string(),
    }
}
