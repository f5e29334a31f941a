//! What all streams of one connection share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;

use quinn::Connection;
use tokio::sync::watch;

use crate::congestion::Prober;
use crate::link::limits::Account;
use crate::link::server_core::PeerName;
use crate::quic::signal::Signal;

/// What the hello of a connection has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HelloState {
    /// None has come.
    Awaited,
    /// One has come and is being judged; no other is taken meanwhile.
    Judged,
    /// The client may come in, but the server was not ready. The client may say hello again.
    NotReady,
    /// It was refused, and the connection ends.
    Refused,
    /// It was good; the session that it names.
    Accepted(Arc<str>),
}

/// What all streams of a connection share.
#[derive(Debug)]
pub(super) struct Peer {
    pub number: u64,
    pub connection: Connection,
    pub prober: Prober,
    /// Whether the handshake is over, so that what the client has sent is no replay.
    pub established: watch::Sender<bool>,
    pub name: PeerName,
    pub hello: watch::Sender<HelloState>,
    /// Accepted requests without an answer.
    pub accepted: Arc<AtomicUsize>,
    pub unreachable: UnreachableReports,
    pub account: Arc<Account>,
    /// Size of the last request, which the next one will probably have.
    pub last_request: AtomicUsize,
}

impl Peer {
    /// Of a client whose hello was accepted.
    pub fn session(&self) -> Option<Arc<str>> {
        match &*self.hello.borrow() {
            HelloState::Accepted(session) => Some(session.clone()),
            _ => None,
        }
    }

    /// Take up a hello; false where one was taken up before, unless that came before the server was ready.
    pub fn begin_hello(&self) -> bool {
        self.hello.send_if_modified(|state| {
            let is_first = matches!(state, HelloState::Awaited | HelloState::NotReady);
            if is_first {
                *state = HelloState::Judged;
            }
            is_first
        })
    }

    /// Close for a server that stops.
    pub fn close_for_shutdown(&self) {
        match self.accepted.load(Ordering::Relaxed) {
            0 => self
                .connection
                .close(Signal::ShuttingDown.into(), b"the server shuts down"),
            _ => self.connection.close(
                Signal::Unfinished.into(),
                b"the server stopped before it had answered",
            ),
        }
    }
}

/// What a client's host has said of it: that nobody listens at its address.
#[derive(Debug, Default)]
pub(super) struct UnreachableReports {
    /// `datagrams << 8 | refusals`: refusals since so many datagrams had come.
    state: AtomicU64,
}

impl UnreachableReports {
    /// A refusal came after `datagrams` datagrams of the client in all; says whether it is gone.
    pub fn refused(&self, datagrams: u64) -> bool {
        let before = self.state.load(Ordering::Relaxed);
        let refusals = match before >> 8 == datagrams {
            true => (before as u8).saturating_add(1),
            false => 1,
        };
        let after = (datagrams << 8) | u64::from(refusals);
        self.state.store(after, Ordering::Relaxed);
        u32::from(refusals) >= REFUSALS_OF_A_DEAD_CLIENT
    }
}

/// Refusals without a datagram in between that mean that a client is gone: one may be forged, by somebody who has seen a packet.
const REFUSALS_OF_A_DEAD_CLIENT: u32 = 2;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_refusal_in_silence_means_that_the_client_is_gone() {
        let reports = UnreachableReports::default();
        assert!(!reports.refused(17));
        assert!(reports.refused(17));
    }

    #[test]
    fn a_datagram_in_between_is_a_sign_of_life() {
        let reports = UnreachableReports::default();
        for datagrams in 1..300 {
            assert!(!reports.refused(datagrams));
        }
        assert!(reports.refused(299));
    }
}
