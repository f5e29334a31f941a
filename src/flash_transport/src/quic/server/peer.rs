//! What all streams of one connection share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;

use quinn::Connection;
use tokio::sync::watch;

use crate::congestion::Prober;
use crate::link::limits::Account;
use crate::quic::signal::Signal;

/// What the hellos of a connection have come to. Only moves forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Introduction {
    /// None that shows that the client may come in.
    Awaited,
    /// The client may come in, but the server was not ready.
    NotReady,
    /// The one good hello, and its session.
    Done(Arc<str>),
}

/// What all streams of a connection share.
#[derive(Debug)]
pub(super) struct Peer {
    pub number: u64,
    pub connection: Connection,
    pub prober: Prober,
    /// Whether the handshake is over, so that what the client has sent is no replay.
    pub established: watch::Sender<bool>,
    /// `ip:port#connection`
    pub name: Arc<str>,
    pub introduction: watch::Sender<Introduction>,
    /// Accepted requests without an answer.
    pub promised: Arc<AtomicUsize>,
    pub doubt: Doubt,
    pub account: Arc<Account>,
    /// Size of the last request, which the next one will probably have.
    pub last_request: AtomicUsize,
}

impl Peer {
    /// Of a client that has said a good hello.
    pub fn session(&self) -> Option<Arc<str>> {
        match &*self.introduction.borrow() {
            Introduction::Done(session) => Some(session.clone()),
            Introduction::Awaited | Introduction::NotReady => None,
        }
    }

    /// Note what a hello came to; false where the one good hello was said before.
    pub fn introduce(&self, introduction: Introduction) -> bool {
        self.introduction.send_if_modified(|current| {
            let moves = !matches!(current, Introduction::Done(_));
            if moves {
                *current = introduction;
            }
            moves
        })
    }

    /// Close for a server that stops.
    pub fn say_goodbye(&self) {
        match self.promised.load(Ordering::Relaxed) {
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

/// What speaks against a client's being alive.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// `datagrams << 8 | refusals`: refusals since so many datagrams had come.
    state: AtomicU64,
}

impl Doubt {
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
        let doubt = Doubt::default();
        assert!(!doubt.refused(17));
        assert!(doubt.refused(17));
    }

    #[test]
    fn a_datagram_in_between_is_a_sign_of_life() {
        let doubt = Doubt::default();
        for datagrams in 1..300 {
            assert!(!doubt.refused(datagrams));
        }
        assert!(doubt.refused(299));
    }
}
