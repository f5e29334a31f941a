//! What the streams of one connection share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use quinn::Connection;
use tokio::sync::{watch, Notify};

use crate::congestion::Prober;
use crate::link::limits::Account;
use crate::link::server_core::PeerName;
use crate::quic::repair::Repairer;
use crate::quic::signal::Signal;

/// The state of a connection's hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HelloState {
    /// No hello has arrived.
    Awaited,
    /// A hello is being judged; no other is accepted meanwhile.
    Judged,
    /// The key was good, but the server was not ready. The client may send another hello.
    NotReady,
    /// The hello was refused, and the connection ends.
    Refused,
    /// The hello was good and names this session.
    Accepted(Arc<str>),
}

/// What all streams of a connection share.
#[derive(Debug)]
pub(super) struct Peer {
    pub number: u64,
    pub connection: Connection,
    pub prober: Prober,
    pub repairer: Arc<Repairer>,
    /// Whether the handshake is complete, so that the client's data is no replay.
    pub established: watch::Sender<bool>,
    pub name: PeerName,
    pub hello: watch::Sender<HelloState>,
    /// Accepted requests without an answer.
    pub accepted: Arc<AtomicUsize>,
    pub unreachable: UnreachableReports,
    pub account: Arc<Account>,
    /// Size of the last request; the next one is probably as large.
    pub last_request: AtomicUsize,
    /// Whose requests are not settled.
    pub streams: AtomicUsize,
    /// After each of them.
    pub stream_ended: Notify,
}

/// How a connection's link does, counted since the connection was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    pub client: Arc<str>,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Of the server.
    pub packets_sent: u64,
    /// Of those, the ones that were declared lost; probes of the datagram size are not counted.
    pub packets_lost: u64,
    /// In UDP datagrams, all of QUIC included.
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

impl Peer {
    pub fn link_state(&self) -> LinkState {
        let stats = self.connection.stats();
        LinkState {
            client: self.name.name.clone(),
            rtt: stats.path.rtt,
            packets_sent: stats.path.sent_packets,
            packets_lost: stats.path.lost_packets,
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
        }
    }

    /// The session, if the client's hello was accepted.
    pub fn session(&self) -> Option<Arc<str>> {
        match &*self.hello.borrow() {
            HelloState::Accepted(session) => Some(session.clone()),
            _ => None,
        }
    }

    /// Begin to judge a hello; false if there was one, unless the server was not ready for it.
    pub fn begin_hello(&self) -> bool {
        self.hello.send_if_modified(|state| {
            let is_first = matches!(state, HelloState::Awaited | HelloState::NotReady);
            if is_first {
                *state = HelloState::Judged;
            }
            is_first
        })
    }

    /// Close because the server stops.
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

/// The reports of a client's host that nothing listens at its address.
#[derive(Debug, Default)]
pub(super) struct UnreachableReports {
    /// `datagrams << 8 | refusals`: the refusals since this number of datagrams had arrived.
    state: AtomicU64,
}

impl UnreachableReports {
    /// Note a refusal, after `datagrams` datagrams of the client in all; returns whether the client
    /// is gone.
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

/// A client is gone after this many refusals without a datagram of it in between: one refusal may
/// be forged by an attacker who has seen a packet.
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
