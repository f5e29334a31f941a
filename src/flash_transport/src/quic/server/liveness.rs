//! Whether a client still lives, when there is reason to doubt it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::quic::signal::Signal;

use super::peer::Peer;
use super::shared::Shared;

/// How often the server speaks to a silent client. A client that was killed is found out by its host's refusal of this.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// A client whose session somebody else takes up has this long to show a sign of life: four probes, and a round trip.
const SIGN_OF_LIFE_TIME: Duration = Duration::from_millis(1500);

/// The host at `address` says that nobody listens there.
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

/// `successor` continues a session: whoever else has it is probably a former life of the same client. It is not closed while it shows
/// signs of life, or two clients with one session would throw each other out for ever.
pub(super) fn take_over_session(shared: &Arc<Shared>, successor: &Peer, session: &Arc<str>) {
    for peer in shared.peers.all() {
        if peer.number == successor.number || peer.session().as_ref() != Some(session) {
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
