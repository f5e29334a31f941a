//! Closes the connections of clients that are gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::quic::signal::Signal;

use super::peer::Peer;
use super::shared::Shared;

/// How often the server probes a silent client. The host of a killed client refuses the probe.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// How long a client may be silent after another has taken up its session: four probes, and a round
/// trip.
const SIGN_OF_LIFE_TIME: Duration = Duration::from_millis(1500);

/// The host at `address` reports that nothing listens there.
pub(super) fn refused(shared: &Shared, address: SocketAddr) {
    let same = |other: SocketAddr| {
        (other.ip().to_canonical(), other.port()) == (address.ip().to_canonical(), address.port())
    };
    for peer in shared.peers.all() {
        let connection = &peer.connection;
        if same(connection.remote_address())
            && connection.close_reason().is_none()
            && peer
                .unreachable
                .refused(connection.stats().udp_rx.datagrams)
        {
            close_gone(shared, &peer, b"nobody listens at the client's address");
        }
    }
}

/// `successor` continues a session. Another connection of it with the same key probably belongs to
/// the same client before a restart, and is closed if it stays silent. It is not closed if it sends:
/// two clients with one session would otherwise close each other's connections for ever.
pub(super) fn take_over_session(shared: &Arc<Shared>, successor: &Peer, session: &Arc<str>) {
    let key = shared.core.key_of(&successor.name.name);
    for peer in shared.peers.all() {
        // A session that bears its connection's name was not named: nobody continues it.
        let is_same = peer.session().as_ref() == Some(session)
            && **session != *peer.name.name
            && shared.core.key_of(&peer.name.name) == key;
        if peer.number == successor.number || !is_same {
            continue;
        }
        let shared = shared.clone();
        let heard = peer.connection.stats().udp_rx.datagrams;
        tokio::spawn(async move {
            tokio::select! {
                _ = peer.connection.closed() => {}
                () = sleep(SIGN_OF_LIFE_TIME) => {
                    if peer.connection.stats().udp_rx.datagrams == heard {
                        close_gone(&shared, &peer, b"another connection has taken this session over");
                    }
                }
            }
        });
    }
}

fn close_gone(shared: &Shared, peer: &Peer, reason: &[u8]) {
    shared.core.counters.clients_gone.add_one();
    peer.connection.close(Signal::Done.into(), reason);
}
