//! The server: one IO thread for any number of clients, and a queue of requests for the policy.

mod conversation;
mod lock;
mod opening;
mod outbox;
mod peer;
mod pings;
mod reader;
mod session_answers;
mod sessions;
mod shared;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::version::TLS13;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::link::admission::{Admission, AdmissionControl};
use crate::link::io_thread;
use crate::link::keys::ApiKey;
use crate::link::limits::ServerLimits;
use crate::link::queue::Next;
use crate::link::request::Request;
use crate::link::server_core::ServerCore;
use crate::trust::Identity;
use lock::lock;
use pings::Pings;
pub use shared::{AskReadiness, Readiness};
use shared::{Shared, FLUSH_TIME};

/// Connections that wait for the IO thread, as of Python's servers.
const BACKLOG: i32 = 128;
/// How long to pause when the system is short of descriptors.
const BREATH: Duration = Duration::from_millis(50);

pub struct WebsocketServerConfig {
    /// Where to listen; a port of 0 is chosen by the system, once for all of them.
    pub addresses: Vec<SocketAddr>,
    /// The msgpack map that each client gets first; `None` while the policy loads, see
    /// [`WebsocketServer::set_metadata`].
    pub metadata: Option<Vec<u8>>,
    /// Without keys every client is accepted.
    pub api_keys: Vec<ApiKey>,
    pub limits: ServerLimits,
    /// For clients that begin with TLS.
    pub identity: Option<Identity>,
    pub readiness: AskReadiness,
    pub expose_tracebacks: bool,
    /// The unix socket of what answers the session API; `None` answers that there is none.
    pub sessions: Option<PathBuf>,
    /// Less than what routers forget a quiet connection after.
    pub ping_interval: Duration,
    /// How long a client may send nothing, not even the answer to a ping.
    pub longest_silence: Duration,
}

impl WebsocketServerConfig {
    pub fn new(address: SocketAddr, metadata: impl Into<Option<Vec<u8>>>) -> Self {
        Self {
            addresses: vec![address],
            metadata: metadata.into(),
            api_keys: Vec::new(),
            limits: ServerLimits::default(),
            identity: None,
            readiness: Arc::new(Readiness::default),
            expose_tracebacks: true,
            sessions: None,
            ping_interval: Duration::from_secs(20),
            longest_silence: Duration::from_secs(900),
        }
    }
}

/// A server for any number of clients.
pub struct WebsocketServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl WebsocketServer {
    /// Listen and serve.
    pub fn bind(config: WebsocketServerConfig) -> io::Result<Self> {
        let listeners = listen(&config.addresses)?;
        let Some(address) = listeners.first().map(std::net::TcpListener::local_addr) else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let core = ServerCore::new(config.metadata.as_deref(), &config.api_keys, config.limits)?;
        let shared = Arc::new(Shared {
            admission: AdmissionControl::new(&core.limits),
            core,
            readiness: config.readiness,
            expose_tracebacks: config.expose_tracebacks,
            sessions: config.sessions,
            tls: config.identity.as_ref().map(acceptor).transpose()?,
            ping_interval: config.ping_interval,
            longest_silence: config.longest_silence,
            pings: Mutex::default(),
            waiting: AtomicUsize::new(0),
            closing: watch::Sender::new(false),
            broken: AtomicBool::new(false),
        });
        let served = shared.clone();
        let thread = io_thread::spawn("flash-websocket", move || serve(served, listeners))?;
        Ok(Self {
            address: address?,
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Where this server listens, the first of its addresses; the port is never 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn core(&self) -> &ServerCore {
        &self.shared.core
    }

    /// Number of open connections, those that have not asked for anything yet included.
    pub fn connections(&self) -> usize {
        self.shared.admission.taken()
    }

    /// Clients that wait for the metadata.
    pub fn waiting_clients(&self) -> usize {
        self.shared.waiting.load(Ordering::SeqCst)
    }

    /// The round trip of each client that has answered a ping.
    pub fn round_trips(&self) -> Vec<(Arc<str>, Duration)> {
        let pings = lock(&self.shared.pings);
        let known = |pings: &Arc<Pings>| Some((pings.client.clone(), pings.round_trip()?));
        pings.values().filter_map(known).collect()
    }

    /// Whether the IO thread ended although the server was not closed.
    pub fn is_broken(&self) -> bool {
        self.shared.broken.load(Ordering::Relaxed)
    }

    /// Wait for a request. Any number of threads may call it.
    pub fn next(&self, within: Duration) -> Next<Request> {
        self.shared.core.queue.next(within)
    }

    /// Send this msgpack map to the clients that wait for it and to those that will come: the policy
    /// is loaded.
    pub fn set_metadata(&self, metadata: &[u8]) {
        self.shared.core.set_metadata(metadata);
    }

    /// Answer new requests `not_ready` from now on. Accepted ones go on.
    pub fn stop_accepting(&self) {
        self.shared.core.accepted.end();
    }

    /// Wait until all accepted requests are answered and the system has the answers; returns whether
    /// that is so.
    pub fn wait_settled(&self, within: Duration) -> bool {
        self.shared.core.accepted.wait_settled(within)
    }

    /// Stop, and wait until that is done. Requests not taken from [`Self::next`] are answered
    /// `not_ready`; requests taken and not answered get no answer. A second call waits for the first.
    pub fn close(&self) {
        self.stop_accepting();
        self.shared.core.close_queue();
        self.shared.closing.send_replace(true);
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
        self.shared.core.events.close();
    }
}

impl Drop for WebsocketServer {
    fn drop(&mut self) {
        self.close();
    }
}

fn listen(addresses: &[SocketAddr]) -> io::Result<Vec<std::net::TcpListener>> {
    let mut listeners = Vec::new();
    let mut port = None;
    for address in addresses {
        let mut address = *address;
        if address.port() == 0 {
            address.set_port(port.unwrap_or(0));
        }
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if let SocketAddr::V6(v6) = address {
            // [::] accepts IPv4, too, whatever the system's default.
            socket.set_only_v6(!v6.ip().is_unspecified())?;
        }
        // A restarted server need not wait for its former connections.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener: std::net::TcpListener = socket.into();
        port = Some(listener.local_addr()?.port());
        listeners.push(listener);
    }
    Ok(listeners)
}

fn acceptor(identity: &Identity) -> io::Result<TlsAcceptor> {
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(identity.chain(), identity.key())
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(shared: Arc<Shared>, listeners: Vec<std::net::TcpListener>) {
    let (busy, mut idle) = mpsc::channel::<()>(1);
    let (incoming, mut arrivals) = mpsc::channel(1);
    for listener in listeners {
        match TcpListener::from_std(listener) {
            Ok(listener) => drop(tokio::spawn(accept(listener, incoming.clone()))),
            Err(_) => shared.broken.store(true, Ordering::Relaxed),
        }
    }
    drop(incoming);
    let mut closing = shared.closing.subscribe();
    let mut number = 0;
    loop {
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => break,
            arrival = arrivals.recv() => match arrival {
                Some((stream, address)) => {
                    number += 1;
                    admit(&shared, stream, address, number, busy.clone());
                }
                None => {
                    shared.broken.store(true, Ordering::Relaxed);
                    break;
                }
            },
        }
    }
    drop((arrivals, busy));
    // Each connection says farewell by itself.
    let _ = timeout(2 * FLUSH_TIME, idle.recv()).await;
}

async fn accept(listener: TcpListener, incoming: mpsc::Sender<(TcpStream, SocketAddr)>) {
    loop {
        tokio::select! {
            // The server has closed: another one may listen here.
            () = incoming.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok(arrival) => {
                    if incoming.send(arrival).await.is_err() {
                        return;
                    }
                }
                // The client has left already, or the system is short of descriptors.
                Err(_) => sleep(BREATH).await,
            },
        }
    }
}

fn admit(
    shared: &Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    number: u64,
    busy: mpsc::Sender<()>,
) {
    // A server that listens on [::] sees an IPv4 client under a mapped address.
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    // A TCP handshake has proved the address.
    let Admission::Permit(permit) = shared.admission.admit(address, true) else {
        return shared.core.counters.connections_refused.add_one();
    };
    let shared = shared.clone();
    tokio::spawn(async move {
        let _held = (permit, busy);
        conversation::serve(shared, stream, address, number).await;
    });
}
