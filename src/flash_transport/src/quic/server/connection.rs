//! One client's connection: its hello, then one task for each of its streams.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::Arc;

use quinn::{Connecting, Incoming, ZeroRttAccepted};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::congestion::Prober;
use crate::link::limits::Account;
use crate::link::server_core::PeerName;
use crate::quic::signal::Signal;

use super::admission::network_of;
use super::peer::{HelloState, Peer, UnreachableReports};
use super::shared::Shared;
use super::stream::serve_stream;

/// From the first datagram of a client to its last.
pub(super) async fn serve_connection(shared: Arc<Shared>, incoming: Incoming, number: u64) {
    let address = incoming.remote_address();
    // An IPv4 client of a server that listens on [::] is still an IPv4 client.
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    // A resumed session's hello is answered before the handshake is over. For a server this always succeeds.
    let begun = incoming.accept().ok();
    let Some(Ok((connection, established))) = begun.map(Connecting::into_0rtt) else {
        shared.core.counters.handshakes_failed.add_one();
        return;
    };
    let peer = Arc::new(Peer {
        number,
        prober: Prober::new(connection.clone()),
        established: watch::Sender::new(false),
        connection,
        name: peer_name(address, number),
        hello: watch::Sender::new(HelloState::Awaited),
        accepted: Arc::default(),
        unreachable: UnreachableReports::default(),
        account: Account::new(&shared.core.limits, shared.core.budget.clone()),
        last_request: AtomicUsize::new(0),
    });

    let _entry = shared.peers.enter(&peer);
    tokio::spawn(end_without_hello(shared.clone(), peer.clone()));
    tokio::spawn(note_established(shared.clone(), peer.clone(), established));
    // Ends with the connection. QUIC holds back more streams than `ServerLimits::connection_requests`.
    while let Ok((send, receive)) = peer.connection.accept_bi().await {
        tokio::spawn(serve_stream(shared.clone(), peer.clone(), send, receive));
    }
    if let Some(session) = peer.session() {
        shared.core.note_disconnected(&peer.name, &session);
    }
}

fn peer_name(address: SocketAddr, number: u64) -> PeerName {
    PeerName {
        name: format!("{address}#{number}").into(),
        address: match network_of(address.ip()) {
            IpAddr::V4(address) => address.to_string().into(),
            IpAddr::V6(network) => format!("{network}/64").into(),
        },
    }
}

async fn note_established(shared: Arc<Shared>, peer: Arc<Peer>, established: ZeroRttAccepted) {
    // Says whether the first flight was taken, and the same of a handshake without one as of a failed one.
    let resumed = established.await;
    if resumed || peer.connection.close_reason().is_none() {
        shared.core.counters.connections_accepted.add_one();
        peer.established.send_replace(true);
    } else {
        shared.core.counters.handshakes_failed.add_one();
    }
}

async fn end_without_hello(shared: Arc<Shared>, peer: Arc<Peer>) {
    let closed = timeout(shared.core.limits.hello_time, peer.connection.closed()).await;
    if closed.is_err() && *peer.hello.borrow() == HelloState::Awaited {
        shared.core.note_silent(&peer.name);
        peer.connection
            .close(Signal::Unauthenticated.into(), b"no hello came in time");
    }
}
