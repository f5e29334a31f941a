//! The server of a unix socket: a thread per client, and the same request queue as over QUIC.
//!
//! A blocking thread is the shortest way from the socket to the policy: it reads the bytes where
//! they stay, and wakes no other thread. A local socket has few clients.

mod connection;
mod in_flight;
mod outbox;
mod peer;
mod shared;

use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::path::{Listener, PathError};
use crate::link::counters::Counters;
use crate::link::events::ClientEvents;
use crate::link::keys::ApiKey;
use crate::link::limits::ServerLimits;
use crate::link::queue::Next;
use crate::link::request::Request;
use crate::link::server_core::ServerCore;
use outbox::STACK_BYTES;
use peer::Peer;
use shared::{lock, Shared};

/// How long a stopping server waits for its final answers to be sent.
const FLUSH_TIME: Duration = Duration::from_secs(1);
/// How long to pause when the system is short of descriptors or threads.
const BREATH: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct LocalServerConfig {
    pub path: PathBuf,
    /// Permissions of the socket's file.
    pub mode: u32,
    /// The msgpack map that answers each hello; `None` while the policy loads, see
    /// [`LocalServer::set_metadata`].
    pub metadata: Option<Vec<u8>>,
    /// Without keys, the file's permissions alone decide who may connect.
    pub api_keys: Vec<ApiKey>,
    pub limits: ServerLimits,
}

impl LocalServerConfig {
    pub fn new(path: impl Into<PathBuf>, metadata: impl Into<Option<Vec<u8>>>) -> Self {
        Self {
            path: path.into(),
            mode: 0o600,
            metadata: metadata.into(),
            api_keys: Vec::new(),
            limits: ServerLimits::default(),
        }
    }
}

/// A server for any number of clients on this computer.
pub struct LocalServer {
    listener: Arc<Listener>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LocalServer {
    /// Listen and serve.
    pub fn bind(config: LocalServerConfig) -> Result<Self, PathError> {
        let io_error = |source| PathError::Io {
            path: config.path.clone(),
            source,
        };
        let core = ServerCore::new(config.metadata.as_deref(), &config.api_keys, config.limits)
            .map_err(io_error)?;
        let listener = Arc::new(Listener::bind(&config.path, config.mode)?);
        let shared = Arc::new(Shared {
            core,
            closing: AtomicBool::new(false),
            peers: Mutex::default(),
            left: Condvar::new(),
        });
        let (accepting, served) = (listener.clone(), shared.clone());
        let thread = start("flash-local-accept", move || accept(&accepting, &served));
        Ok(Self {
            listener,
            shared,
            thread: Mutex::new(Some(thread.map_err(io_error)?)),
        })
    }

    pub fn path(&self) -> &Path {
        self.listener.path()
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

    /// Answer hellos with this msgpack map from now on: the policy is loaded. Before, hellos and
    /// requests are answered `not_ready`.
    pub fn set_metadata(&self, metadata: &[u8]) {
        self.shared.core.set_metadata(metadata);
    }

    /// Wait for a request. Any number of threads may call it.
    pub fn next(&self, within: Duration) -> Next<Request> {
        self.shared.core.queue.next(within)
    }

    /// Answer new requests `not_ready` from now on. Accepted ones go on.
    pub fn stop_accepting(&self) {
        self.shared.core.accepted.end();
    }

    /// Wait until all accepted requests are answered and the kernel has the answers; returns whether
    /// that is so.
    pub fn wait_settled(&self, within: Duration) -> bool {
        let until = Instant::now().checked_add(within);
        if !self.shared.core.accepted.wait_settled(within) {
            return false;
        }
        let until = until.unwrap_or_else(|| Instant::now() + FLUSH_TIME);
        let mut peers = self.shared.all_peers().into_iter();
        peers.all(|peer| peer.outbox.wait_until_empty(until))
    }

    /// Stop, and wait until that is done. Requests not taken from [`Self::next`] are answered
    /// `not_ready`; for requests taken and not answered, the connection ends. A second call waits
    /// for the first.
    pub fn close(&self) {
        self.stop_accepting();
        let mut thread = lock(&self.thread);
        if let Some(thread) = thread.take() {
            self.shared.closing.store(true, Ordering::SeqCst);
            // From now on another server may listen here.
            self.listener.unlink();
            // SAFETY: shuts down an open descriptor; this wakes the thread in `accept`.
            unsafe { libc::shutdown(self.listener.listener.as_raw_fd(), libc::SHUT_RDWR) };
            let _ = thread.join();
            self.shared.core.close_queue();
            let until = Instant::now() + FLUSH_TIME;
            for peer in self.shared.all_peers() {
                peer.outbox.wait_until_empty(until);
                // The client can still read what was sent.
                let _ = peer.stream.shutdown(Shutdown::Both);
            }
            self.shared.wait_until_all_left(FLUSH_TIME);
            self.shared.core.events.close();
        }
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.close();
    }
}

fn accept(listener: &Listener, shared: &Arc<Shared>) {
    let mut number = 0;
    loop {
        let accepted = listener.listener.accept();
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        match accepted {
            Ok((stream, _)) => {
                number += 1;
                admit(shared, stream, number);
            }
            // The client has left already, or the system is short of descriptors.
            Err(_) => thread::sleep(BREATH),
        }
    }
}

fn admit(shared: &Arc<Shared>, stream: UnixStream, number: u64) {
    let mut peers = lock(&shared.peers);
    let peer = match Peer::new(&shared.core.limits, &shared.core.budget, stream, number) {
        Ok(peer) if peers.len() < shared.core.limits.connections => peer,
        _ => return shared.core.counters.connections_refused.add_one(),
    };
    peers.insert(number, peer.clone());
    drop(peers);
    shared.core.counters.connections_accepted.add_one();
    let served = shared.clone();
    let started = start("flash-local-reader", move || {
        let _listed = Listed {
            shared: &served,
            number,
        };
        connection::serve(&served, &peer);
    });
    if started.is_err() {
        lock(&shared.peers).remove(&number);
        thread::sleep(BREATH);
    }
}

/// A client's entry in the list; removed when dropped.
struct Listed<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        lock(&self.shared.peers).remove(&self.number);
        self.shared.left.notify_all();
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(work)
}
