//! The server: one IO thread for any number of clients, and a queue of requests for the policy.

mod connection;
mod connection_ids;
mod liveness;
mod peer;
mod peers;
mod port_unreachable;
mod shared;
mod socket;
mod stream;
mod unmatched;
mod windows;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime, VarInt};
use ring::hmac;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::datagram_size;
use super::relay::ways::Ways;
use super::settings::{self, LinkSettings, SocketBuffers};
use super::signal::Signal;
use super::tls;
use crate::link::admission::{Admission, AdmissionControl};
use crate::link::counters::Counters;
use crate::link::events::{ClientEventKind, ClientEvents};
use crate::link::io_thread;
use crate::link::keys::ApiKey;
use crate::link::limits::ServerLimits;
use crate::link::queue::Next;
use crate::link::request::Request;
use crate::link::server_core::{ServerCore, SHUTTING_DOWN};
use crate::relay::access::RelayAccess;
use crate::relay::end::why_not;
use crate::relay::message::EndId;
use crate::relay::registration::Standing;
use crate::trust::{Fingerprint, Identity};
use connection::serve_connection;
use connection_ids::ConnectionIds;
pub use connection_ids::{ServerId, ServerIdError};
pub use peer::LinkState;
use shared::{Shared, Stage, FLUSH_TIME};
use socket::ListeningSocket;
use unmatched::is_unmatched;

#[derive(Debug)]
pub struct ServerConfig {
    pub address: SocketAddr,
    pub identity: Identity,
    /// The msgpack map that answers each hello; `None` while the policy loads, see
    /// [`Server::set_metadata`].
    pub metadata: Option<Vec<u8>>,
    /// Without keys every client is accepted.
    pub api_keys: Vec<ApiKey>,
    pub limits: ServerLimits,
    pub link: LinkSettings,
    /// What a load balancer routes by; without it connection ids are shorter and say nothing.
    pub server_id: Option<ServerId>,
    /// The relay at which to register, for clients that cannot reach the address.
    pub relay: Option<RelayAccess>,
}

impl ServerConfig {
    pub fn new(
        address: SocketAddr,
        identity: Identity,
        metadata: impl Into<Option<Vec<u8>>>,
    ) -> Self {
        Self {
            address,
            identity,
            metadata: metadata.into(),
            api_keys: Vec::new(),
            limits: ServerLimits::default(),
            link: LinkSettings::default(),
            server_id: None,
            relay: None,
        }
    }
}

pub struct Server {
    address: SocketAddr,
    fingerprint: Fingerprint,
    link: LinkSettings,
    buffers: SocketBuffers,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Time for a closed endpoint to tell its peers.
const FAREWELL_TIME: Duration = Duration::from_millis(20);

impl Server {
    /// Bind and serve. Fails if the address is in use.
    pub fn bind(config: ServerConfig) -> io::Result<Self> {
        let ServerConfig {
            address,
            identity,
            metadata,
            api_keys,
            limits,
            link,
            server_id,
            relay,
        } = config;
        let (socket, buffers) = settings::bind(address, &link)?;
        let address = socket.local_addr()?;
        let quinn_config = quinn_config(&identity, &limits, &link, buffers, relay.is_some())
            .map_err(io::Error::other)?;
        let (endpoint_config, ids) = endpoint_config(&identity, server_id);
        let end = relay_end(&identity);
        let core = ServerCore::new(metadata.as_deref(), &api_keys, limits)?;

        let (busy, idle) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            admission: AdmissionControl::new(&core.limits),
            core,
            receive_window: link.connection_receive_window,
            repair: link.repair,
            peers: Arc::default(),
            stage: watch::Sender::new(Stage::Serving),
            busy: busy.downgrade(),
            broken: AtomicBool::new(false),
        });
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let io = shared.clone();
        let largest_datagram = link.largest_datagram;
        let thread = io_thread::spawn("flash-server", move || async move {
            let opened = open(
                &io,
                socket,
                largest_datagram,
                relay.as_ref().map(|access| (access, end)),
                ids,
                endpoint_config,
                quinn_config,
            );
            match opened {
                Ok((endpoint, socket)) => {
                    let _ = started.send(Ok(()));
                    tokio::spawn(watch(io.clone(), socket.clone()));
                    if let Some((ways, access)) = socket.ways().cloned().zip(relay) {
                        tokio::spawn(tell_of_relay(io.clone(), ways.clone(), access.clone()));
                        tokio::spawn(async move { ways.find_relay(&access).await });
                    }
                    serve(io, endpoint, busy, idle).await;
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })?;
        start
            .recv()
            .map_err(|_| io::Error::other("the IO thread ended at its start"))??;
        Ok(Self {
            address,
            fingerprint: identity.fingerprint(),
            link,
            buffers,
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Where this server listens; the port is never 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate's fingerprint, which clients pin.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub fn link(&self) -> &LinkSettings {
        &self.link
    }

    pub fn socket_buffers(&self) -> SocketBuffers {
        self.buffers
    }

    /// Number of open connections, those in their handshake included.
    pub fn connections(&self) -> usize {
        self.shared.admission.taken()
    }

    /// The state of each connection's link.
    pub fn links(&self) -> Vec<LinkState> {
        let peers = self.shared.peers.all();
        peers.iter().map(|peer| peer.link_state()).collect()
    }

    pub fn counters(&self) -> &Counters {
        &self.shared.core.counters
    }

    pub fn core(&self) -> &ServerCore {
        &self.shared.core
    }

    /// Which clients connected, disconnected or were refused, for the operator.
    pub fn events(&self) -> &ClientEvents {
        &self.shared.core.events
    }

    /// Whether the IO thread ended although the server was not closed.
    pub fn is_broken(&self) -> bool {
        self.shared.broken.load(Ordering::Relaxed)
    }

    /// Wait for a request. Any number of threads may call it.
    pub fn next(&self, within: Duration) -> Next<Request> {
        self.shared.core.queue.next(within)
    }

    /// Answer hellos with this msgpack map from now on: the policy is loaded. Before, hellos and
    /// requests are answered `not_ready`.
    pub fn set_metadata(&self, metadata: &[u8]) {
        self.shared.core.set_metadata(metadata);
    }

    /// Answer hellos and new requests `not_ready` from now on. Accepted requests go on:
    /// [`Self::next`] still returns them, and their answers are sent.
    pub fn stop_accepting(&self) {
        self.shared.core.accepted.end();
        self.shared.enter(Stage::Draining);
    }

    /// Wait until all accepted requests are answered and the answers have arrived; returns whether
    /// they have.
    pub fn wait_settled(&self, within: Duration) -> bool {
        self.shared.core.accepted.wait_settled(within)
    }

    /// Stop, tell all clients, and wait until that is done. Requests not taken from [`Self::next`]
    /// are answered `not_ready`; requests taken and not answered get no answer. A second call waits
    /// for the first.
    pub fn close(&self) {
        self.stop_accepting();
        self.shared.enter(Stage::Closing);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            let _ = thread.join();
        }
        self.shared.core.events.close();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

fn open(
    shared: &Arc<Shared>,
    socket: std::net::UdpSocket,
    largest_datagram: u16,
    relay: Option<(&RelayAccess, EndId)>,
    ids: ConnectionIds,
    mut config: EndpointConfig,
    quinn_config: quinn::ServerConfig,
) -> io::Result<(Endpoint, Arc<ListeningSocket>)> {
    config
        .max_udp_payload_size(largest_datagram)
        .map_err(io::Error::other)?;
    let counting = shared.clone();
    let socket = ListeningSocket::new(socket, largest_datagram, relay, move |datagram| {
        counting.core.counters.datagrams_received.add_one();
        if is_unmatched(datagram, &ids) {
            counting.core.counters.datagrams_garbage.add_one();
        }
    })?;
    let runtime = Arc::new(TokioRuntime);
    let endpoint =
        Endpoint::new_with_abstract_socket(config, Some(quinn_config), socket.clone(), runtime)?;
    Ok((endpoint, socket))
}

/// Close the connections of clients that are gone. Ends with the IO thread.
async fn watch(shared: Arc<Shared>, socket: Arc<ListeningSocket>) {
    // Fails only with the runtime.
    let _ = socket
        .watch(|address| liveness::refused(&shared, address))
        .await;
}

/// Note each change of how the server stands with its relay, for the operator.
async fn tell_of_relay(shared: Arc<Shared>, ways: Arc<Ways>, access: RelayAccess) {
    let relay = Arc::from(access.relay());
    let tell = |standing| {
        let said = match standing {
            Standing::Registered(seen) => format!("registered as {}, seen at {seen}", access.name),
            standing => format!("not registered as {}: {}", access.name, why_not(standing)),
        };
        let events = &shared.core.events;
        events.note(ClientEventKind::Relay, &relay, &said);
    };
    ways.watch(tell).await;
}

async fn serve(
    shared: Arc<Shared>,
    endpoint: Endpoint,
    busy: mpsc::Sender<()>,
    mut idle: mpsc::Receiver<()>,
) {
    let mut stage = shared.stage.subscribe();
    let mut number = 0;
    let closed = loop {
        let incoming = tokio::select! {
            biased;
            _ = stage.wait_for(|stage| *stage == Stage::Closing) => break true,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else {
            break false;
        };
        number += 1;
        admit(&shared, incoming, number);
    };
    shared.broken.store(!closed, Ordering::Relaxed);
    shared.enter(Stage::Closing);
    shared.core.close_queue();
    endpoint.set_server_config(None);
    drop(busy);
    let _ = timeout(FLUSH_TIME, idle.recv()).await;
    for peer in shared.peers.all() {
        peer.close_for_shutdown();
    }
    endpoint.close(Signal::ShuttingDown.into(), SHUTTING_DOWN.as_bytes());
    let _ = timeout(FAREWELL_TIME, endpoint.wait_idle()).await;
}

fn admit(shared: &Arc<Shared>, incoming: Incoming, number: u64) {
    let admission = shared
        .admission
        .admit(incoming.remote_address(), !incoming.may_retry());
    let permit = match admission {
        Admission::Permit(permit) => permit,
        Admission::ProveAddress => {
            let _ = incoming.retry();
            return;
        }
        Admission::Full => {
            shared.core.counters.connections_refused.add_one();
            incoming.refuse();
            return;
        }
    };
    let shared = shared.clone();
    tokio::spawn(async move {
        let _permit = permit;
        serve_connection(shared, incoming, number).await;
    });
}

fn quinn_config(
    identity: &Identity,
    limits: &ServerLimits,
    link: &LinkSettings,
    buffers: SocketBuffers,
    is_relayed: bool,
) -> Result<quinn::ServerConfig, tls::TlsError> {
    let mut config = quinn::ServerConfig::with_crypto(tls::server(identity)?);
    let mut link = link.clone();
    if is_relayed {
        link.largest_datagram = link.largest_datagram.min(datagram_size::RELAYED);
    }
    let mut transport = settings::server(&link, buffers, limits.connection_requests);
    transport
        .keep_alive_interval(Some(liveness::PROBE_INTERVAL))
        .receive_window(VarInt::from_u32(
            windows::STRANGERS_WINDOW.min(link.connection_receive_window),
        ));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// What a relay knows the server by: the same after a restart, or its former self would hold the name.
fn relay_end(identity: &Identity) -> EndId {
    let secret = identity.derived_secret("relay end");
    let mut end = EndId::default();
    end.copy_from_slice(&secret[..8]);
    end
}

/// A restarted server with the same identity recognises packets of its former connections, and
/// tells their clients at once that these have ended (a stateless reset, RFC 9000, section 10.3).
fn endpoint_config(
    identity: &Identity,
    server_id: Option<ServerId>,
) -> (EndpointConfig, ConnectionIds) {
    let reset_secret = identity.derived_secret("stateless reset");
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &reset_secret);
    let mut id_key = [0; 8];
    id_key.copy_from_slice(&identity.derived_secret("connection id")[..8]);
    let id_key = u64::from_le_bytes(id_key);

    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(move || Box::new(ConnectionIds::new(id_key, server_id)));
    (config, ConnectionIds::new(id_key, server_id))
}
