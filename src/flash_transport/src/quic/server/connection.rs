//! One client's connection: its hello, then one task for each of its streams.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use quinn::{Connecting, Connection, Incoming, ZeroRttAccepted};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::congestion::Prober;
use crate::link::limits::Account;
use crate::quic::signal::Signal;

use super::liveness::Doubt;
use super::stream::serve_stream;
use super::Shared;

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

/// From the first datagram of a client to its last.
pub(super) async fn serve_connection(shared: Arc<Shared>, incoming: Incoming, number: u64) {
    let address = incoming.remote_address();
    // An IPv4 client of a server that listens on [::] is still an IPv4 client.
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    // A resumed session's hello is answered before the handshake is over. For a server this always succeeds.
    let begun = incoming.accept().ok();
    let Some(Ok((connection, established))) = begun.map(Connecting::into_0rtt) else {
        shared.counters.handshakes_failed.add_one();
        return;
    };
    let peer = Arc::new(Peer {
        number,
        prober: Prober::new(connection.clone()),
        established: watch::Sender::new(false),
        connection,
        name: format!("{address}#{number}").into(),
        introduction: watch::Sender::new(Introduction::Awaited),
        promised: Arc::default(),
        doubt: Doubt::default(),
        account: Account::new(&shared.limits, shared.budget.clone()),
        last_request: AtomicUsize::new(0),
    });

    let _entry = shared.peers.enter(&peer);
    tokio::spawn(end_without_hello(shared.clone(), peer.clone()));
    tokio::spawn(note_established(shared.clone(), peer.clone(), established));
    // Ends with the connection. QUIC holds back more streams than `ServerLimits::connection_requests`.
    while let Ok((send, receive)) = peer.connection.accept_bi().await {
        tokio::spawn(serve_stream(shared.clone(), peer.clone(), send, receive));
    }
}

async fn note_established(shared: Arc<Shared>, peer: Arc<Peer>, established: ZeroRttAccepted) {
    // Says whether the first flight was taken, and the same of a handshake without one as of a failed one.
    let resumed = established.await;
    if resumed || peer.connection.close_reason().is_none() {
        shared.counters.connections_accepted.add_one();
        peer.established.send_replace(true);
    } else {
        shared.counters.handshakes_failed.add_one();
    }
}

async fn end_without_hello(shared: Arc<Shared>, peer: Arc<Peer>) {
    let closed = timeout(shared.limits.hello_time, peer.connection.closed()).await;
    if closed.is_err() && *peer.introduction.borrow() == Introduction::Awaited {
        shared.counters.clients_unauthenticated.add_one();
        peer.connection
            .close(Signal::Unauthenticated.into(), b"no hello came in time");
    }
}
