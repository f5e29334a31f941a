//! The errors of a client, and whether trying again helps.

use std::io;
use std::time::Duration;

use quinn::{ConnectionError, ReadError, TransportErrorCode, WriteError};

use crate::codec::CodecError;
use crate::link::hello::HelloError;
use crate::link::wire::{ErrorCode, Failure};
use crate::quic::signal::Signal;
use crate::quic::socket::Unreached;
use crate::trust::Refusal;

/// `server` is always `host:port` as the user gave it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    #[error("no answer from {server} within {}{}", seconds(*.within), silence(*.silent))]
    Timeout {
        server: String,
        within: Duration,
        /// How long nothing at all has come from the server, if it should have answered meanwhile.
        silent: Option<Duration>,
    },

    #[error("cannot connect to {server} within {}: {reason}; check that the server runs, that host and port are right, and that UDP port {port} is open on the way", seconds(*.within))]
    Unreachable {
        server: String,
        port: u16,
        within: Duration,
        reason: String,
    },

    #[error("cannot connect to {server} within {}: {reason}; check that the server runs on this computer and that the path is its unix_socket_path", seconds(*.within))]
    NoLocalServer {
        server: String,
        within: Duration,
        reason: String,
    },

    #[error("cannot connect to {server} through relay {relay} within {}: {reason}; check that the server runs and is registered there, and that UDP to the relay is open on the way", seconds(*.within))]
    NoRelayedServer {
        server: String,
        relay: String,
        within: Duration,
        reason: String,
    },

    #[error("{server} speaks another protocol or another version of it, this client speaks openpi-flash/1; check that the port is the server's QUIC port")]
    OtherProtocol { server: String },

    #[error("connection to {server} was lost before the answer came: {reason}; the next request connects again")]
    Lost { server: String, reason: String },

    /// There is no connection, and the request was not to wait for one, or the connection ended
    /// before the server had begun the request.
    #[error("no connection to {server}: {reason}")]
    NotBegun { server: String, reason: String },

    #[error("{server} refused the api key: {message}")]
    AuthenticationFailed { server: String, message: String },

    #[error("certificate of {server} {refusal}")]
    UntrustedServer { server: String, refusal: Refusal },

    #[error("{message}")]
    Superseded { message: String },

    #[error("{}: {}", .0.code, .0.message)]
    Server(Failure),

    #[error("answer of {server} is not valid: {reason}")]
    BadAnswer { server: String, reason: String },

    #[error("answer of {server} is larger than {limit} bytes")]
    AnswerTooLarge { server: String, limit: usize },

    #[error(transparent)]
    Hello(#[from] HelloError),

    #[error("cannot open a socket for {server}: {reason}")]
    Socket { server: String, reason: String },

    #[error("this client of {server} is closed")]
    Closed { server: String },
}

/// Why one attempt to connect failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AttemptError {
    /// Another attempt may succeed.
    Again(String),
    /// The server is there and not ready yet.
    NotReady(Failure),
    /// No attempt will succeed until somebody changes something.
    Final(ClientError),
}

impl AttemptError {
    pub fn again(reason: impl ToString) -> Self {
        AttemptError::Again(reason.to_string())
    }
}

/// Decides for every error whether to retry.
pub(super) fn judge_handshake(server: &str, error: ConnectionError) -> AttemptError {
    let code = match &error {
        // The server decides which end notices first.
        ConnectionError::TransportError(found) => Some(found.code),
        ConnectionError::ConnectionClosed(close) => Some(close.error_code),
        _ => None,
    };
    if code == Some(TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL))
        || error == ConnectionError::VersionMismatch
    {
        let server = server.to_owned();
        return AttemptError::Final(ClientError::OtherProtocol { server });
    }
    AttemptError::Again(describe(&error))
}

/// The TLS alert of a server without our [`ALPN`](crate::link::wire::ALPN) (RFC 7301, section 3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// An error of the server, as the caller sees it.
pub(super) fn judge_failure(server: &str, failure: Failure) -> ClientError {
    match ErrorCode::from_name(&failure.code) {
        Some(ErrorCode::Unauthenticated) => ClientError::AuthenticationFailed {
            server: server.to_owned(),
            message: failure.message,
        },
        Some(ErrorCode::Superseded) => ClientError::Superseded {
            message: failure.message,
        },
        _ => ClientError::Server(failure),
    }
}

pub(super) fn bad_answer(server: &str, error: CodecError) -> ClientError {
    ClientError::BadAnswer {
        server: server.to_owned(),
        reason: error.to_string(),
    }
}

/// The host reports that no program has the UDP port open.
pub(super) const NOBODY_LISTENS: &str = "nothing listens there";

/// A firewall reports that it lets no datagram through.
const UDP_BARRED: &str = "a firewall refuses UDP";

pub(super) fn describe_refusal(refusal: Unreached) -> &'static str {
    match refusal {
        Unreached::NobodyListens => NOBODY_LISTENS,
        Unreached::Barred => UDP_BARRED,
    }
}

/// A stateless reset (RFC 9000, section 10.3), which does not tell why.
const FORGOTTEN: &str =
    "the server does not know the connection any more: it has been restarted, or \
                         has heard nothing for so long that it gave the connection up";

/// The server stopped during a request, which may have been carried out.
const UNFINISHED: &str = "the server stopped before it had answered";

/// The end of a connection, for users who do not know QUIC.
pub(super) fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TimedOut => "the server is silent".into(),
        ConnectionError::Reset => FORGOTTEN.into(),
        // The client closes connections itself only when it is closed, which is reported elsewhere,
        // or for this:
        ConnectionError::LocallyClosed => NOBODY_LISTENS.into(),
        ConnectionError::ApplicationClosed(close) => {
            if close.error_code == Signal::ShuttingDown.into() {
                return "the server shuts down".into();
            }
            if close.error_code == Signal::Unfinished.into() {
                return UNFINISHED.into();
            }
            match String::from_utf8_lossy(&close.reason) {
                reason if reason.is_empty() => "the server closed it".into(),
                reason => format!("the server closed it: {reason}"),
            }
        }
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            "the server refused it, it may have too many clients".into()
        }
        other => other.to_string(),
    }
}

pub(super) fn connection_error(error: ReadError) -> String {
    match error {
        ReadError::ConnectionLost(error) => describe(&error),
        ReadError::Reset(code) if code == Signal::TooSlow.into() => {
            "the server gave up on sending its answer, this client read too slowly".into()
        }
        ReadError::Reset(code) if code == Signal::Unfinished.into() => UNFINISHED.into(),
        ReadError::Reset(_) => "the server gave up on this request".into(),
        other => other.to_string(),
    }
}

/// Why the connection ended, if a write failed for that; a server that only stops reading still
/// answers.
pub(super) fn lost_while_writing(error: WriteError) -> Option<String> {
    match error {
        WriteError::Stopped(_) => None,
        WriteError::ConnectionLost(error) => Some(describe(&error)),
        other => Some(other.to_string()),
    }
}

pub(super) fn socket_error(server: &str, error: io::Error) -> AttemptError {
    match error.kind() {
        // The robot's network may come up later.
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            AttemptError::again(error)
        }
        _ => AttemptError::Final(ClientError::Socket {
            server: server.to_owned(),
            reason: error.to_string(),
        }),
    }
}

fn silence(silent: Option<Duration>) -> String {
    silent.map_or(String::new(), |silent| {
        let silent = seconds(silent);
        format!(": the link is silent, nothing has come from the server for {silent}")
    })
}

fn seconds(duration: Duration) -> String {
    format!("{} s", (duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "gpu:5555";

    #[test]
    fn messages_name_the_server_and_what_to_do() {
        let unreachable = ClientError::Unreachable {
            server: SERVER.into(),
            port: 5555,
            within: Duration::from_millis(1500),
            reason: "the server is silent".into(),
        };
        assert_eq!(
            unreachable.to_string(),
            "cannot connect to gpu:5555 within 1.5 s: the server is silent; check that the server runs, \
             that host and port are right, and that UDP port 5555 is open on the way"
        );
        let timeout = ClientError::Timeout {
            server: SERVER.into(),
            within: Duration::from_millis(20),
            silent: None,
        };
        assert_eq!(timeout.to_string(), "no answer from gpu:5555 within 0.02 s");
        let silent = ClientError::Timeout {
            server: SERVER.into(),
            within: Duration::from_millis(500),
            silent: Some(Duration::from_millis(1250)),
        };
        assert_eq!(
            silent.to_string(),
            "no answer from gpu:5555 within 0.5 s: the link is silent, nothing has come from the \
             server for 1.25 s"
        );
    }

    #[test]
    fn a_server_of_another_protocol_is_final() {
        let judged = judge_handshake(SERVER, ConnectionError::VersionMismatch);
        let server = SERVER.to_owned();
        assert_eq!(
            judged,
            AttemptError::Final(ClientError::OtherProtocol { server })
        );
    }

    #[test]
    fn a_stateless_reset_is_not_said_to_be_a_restart() {
        let said = describe(&ConnectionError::Reset);
        assert!(said.contains("restarted, or"), "{said}");
    }

    #[test]
    fn a_silent_server_is_tried_again() {
        assert_eq!(
            judge_handshake(SERVER, ConnectionError::TimedOut),
            AttemptError::Again("the server is silent".into())
        );
    }

    #[test]
    fn answers_become_the_errors_that_callers_catch() {
        let server = SERVER.to_owned();
        let message = "m".to_owned();
        let judge = |code| judge_failure(SERVER, Failure::new(code, "m"));
        assert_eq!(
            judge(ErrorCode::Unauthenticated),
            ClientError::AuthenticationFailed {
                server,
                message: message.clone()
            }
        );
        assert_eq!(
            judge(ErrorCode::Superseded),
            ClientError::Superseded { message }
        );
        for code in [
            ErrorCode::BadRequest,
            ErrorCode::DeadlineExceeded,
            ErrorCode::NotReady,
            ErrorCode::Internal,
        ] {
            assert_eq!(judge(code), ClientError::Server(Failure::new(code, "m")));
        }
    }
}
