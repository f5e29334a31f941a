//! One client's connection: a task for each of its streams, the hello's among them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connecting, Connection, Incoming, ZeroRttAccepted};
use tokio::sync::{watch, Notify};
use tokio::time::timeout;

use crate::congestion::Prober;
use crate::link::limits::Account;
use crate::link::server_core::PeerName;
use crate::quic::repair::{Event, Repairer};
use crate::quic::signal::Signal;

use super::peer::{HelloState, Peer, UnreachableReports};
use super::shared::{Shared, Stage};
use super::stream::serve_stream;

/// Serve a client from its first datagram to its last.
pub(super) async fn serve_connection(shared: Arc<Shared>, incoming: Incoming, number: u64) {
    let address = incoming.remote_address();
    // A server that listens on [::] sees an IPv4 client under a mapped address.
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    // The hello of a resumed session is answered before the handshake is complete. On a server this
    // always succeeds.
    let begun = incoming.accept().ok();
    let Some(Ok((connection, established))) = begun.map(Connecting::into_0rtt) else {
        shared.core.counters.handshakes_failed.add_one();
        return;
    };
    let peer = Arc::new(Peer {
        number,
        prober: Prober::new(connection.clone()),
        repairer: Arc::new(repairer(&shared, &connection)),
        established: watch::Sender::new(false),
        connection,
        name: PeerName::of_socket(address, number),
        hello: watch::Sender::new(HelloState::Awaited),
        accepted: Arc::default(),
        unreachable: UnreachableReports::default(),
        account: Account::new(&shared.core.limits, shared.core.budget.clone()),
        last_request: AtomicUsize::new(0),
        streams: AtomicUsize::new(0),
        stream_ended: Notify::new(),
    });

    let _entry = shared.peers.enter(&peer);
    tokio::spawn(end_without_hello(shared.clone(), peer.clone()));
    tokio::spawn(note_established(shared.clone(), peer.clone(), established));
    if *shared.stage.borrow() == Stage::Serving {
        tokio::spawn(send_away(shared.clone(), peer.clone()));
    }
    // Ends with the connection. QUIC holds back streams beyond `ServerLimits::connection_requests`.
    while let Ok((send, receive)) = peer.connection.accept_bi().await {
        let (shared, peer) = (shared.clone(), peer.clone());
        peer.streams.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            serve_stream(shared, peer.clone(), send, receive).await;
            peer.streams.fetch_sub(1, Ordering::Relaxed);
            peer.stream_ended.notify_one();
        });
    }
    if let Some(session) = peer.session() {
        shared.core.note_disconnected(&peer.name, &session);
    }
}

fn repairer(shared: &Arc<Shared>, connection: &Connection) -> Repairer {
    let shared = shared.clone();
    Repairer::new(connection.clone(), Arc::default(), move |event| {
        let counters = &shared.core.counters;
        match event {
            Event::Sent(bytes) => counters.repair_bytes_sent.add(bytes as u64),
            Event::Rebuilt => counters.requests_rebuilt.add_one(),
            Event::Refused => counters.repair_refused.add_one(),
        }
    })
}

async fn note_established(shared: Arc<Shared>, peer: Arc<Peer>, established: ZeroRttAccepted) {
    // Whether the early data was accepted; false also without early data, and after a failed
    // handshake.
    let resumed = established.await;
    if resumed || peer.connection.close_reason().is_none() {
        shared.core.counters.connections_accepted.add_one();
        peer.established.send_replace(true);
    } else {
        shared.core.counters.handshakes_failed.add_one();
    }
}

/// Besides the round trip, how long requests may still come when the server begins to drain.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// When the server drains, close the connection as soon as nothing is under way on it: the client
/// then asks whoever answers at its address next, and does not wait for the requests of others.
async fn send_away(shared: Arc<Shared>, peer: Arc<Peer>) {
    let mut stage = shared.stage.subscribe();
    tokio::select! {
        _ = stage.wait_for(|stage| *stage >= Stage::Draining) => {}
        _ = peer.connection.closed() => return,
    }
    // What was under way to here is refused, which tells its client more than the connection's end.
    tokio::time::sleep(ON_ITS_WAY + peer.connection.rtt()).await;
    while peer.streams.load(Ordering::Relaxed) > 0 {
        tokio::select! {
            () = peer.stream_ended.notified() => {}
            _ = peer.connection.closed() => return,
        }
    }
    if *stage.borrow() == Stage::Draining {
        peer.close_for_shutdown();
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
