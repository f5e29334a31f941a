//! A client's UDP socket, connected to its server, which notices that nothing listens there, and
//! that a firewall refuses UDP.
//!
//! The kernel reports ICMP "port unreachable" and "administratively prohibited" to a connected
//! socket. QUIC alone would notice either only after ten seconds of silence.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::sync::Notify;

use super::datagram_size;
use super::udp::{LargestDatagrams, Udp};

/// A server is gone after this many refusals without a datagram in between. A single one may be
/// late news of a server that is back by now, or forged by an attacker who has seen a packet.
const REFUSALS_OF_A_DEAD_SERVER: u32 = 2;

/// Why datagrams do not reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreached {
    /// No program has the UDP port open.
    NobodyListens,
    /// A firewall on the way or on this computer lets none through.
    Barred,
}

pub(crate) struct ConnectedSocket {
    udp: Arc<Udp>,
    /// Refusals since the last datagram that arrived.
    refusals: AtomicU32,
    /// Whether the network has refused to carry a datagram.
    is_barred: AtomicBool,
    refused: Notify,
    made: Instant,
    /// Milliseconds from then to the last datagram that arrived.
    heard: AtomicU64,
}

impl ConnectedSocket {
    /// Sends datagrams of up to `largest` bytes, if the route carries them, and receives ordinary
    /// ones.
    pub fn new(
        socket: std::net::UdpSocket,
        server: SocketAddr,
        largest: u16,
    ) -> io::Result<Arc<Self>> {
        // On other systems a connected socket refuses datagrams with an address, which quinn sends.
        // There only silence tells.
        if cfg!(target_os = "linux") {
            socket.connect(server)?;
        }
        let largest = LargestDatagrams {
            sent: datagram_size::for_route_of(&socket).min(largest),
            received: datagram_size::ORDINARY,
        };
        Ok(Arc::new(Self {
            udp: Udp::new(socket, largest)?,
            refusals: AtomicU32::new(0),
            is_barred: AtomicBool::new(false),
            refused: Notify::new(),
            made: Instant::now(),
            heard: AtomicU64::new(0),
        }))
    }

    /// The largest datagram that its route may carry.
    pub fn largest_datagram(&self) -> u16 {
        self.udp.largest.sent
    }

    /// When the last datagram arrived, or when the socket was made; exact to a millisecond.
    pub fn last_heard(&self) -> Instant {
        self.made + Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// Wait until the server's host reports that nothing listens, or the network that it does not
    /// carry UDP, before any answer has arrived.
    pub async fn refused_once(&self) -> Unreached {
        self.refused_until(|| {
            if self.is_barred.load(Ordering::Relaxed) {
                return Some(Unreached::Barred);
            }
            (self.refusals.load(Ordering::Relaxed) > 0).then_some(Unreached::NobodyListens)
        })
        .await
    }

    /// Wait until a server that has answered before is gone. Its network may be away for a while.
    pub async fn server_is_gone(&self) {
        self.refused_until(|| {
            let refusals = self.refusals.load(Ordering::Relaxed);
            (refusals >= REFUSALS_OF_A_DEAD_SERVER).then_some(())
        })
        .await;
    }

    async fn refused_until<T>(&self, refused: impl Fn() -> Option<T>) -> T {
        loop {
            if let Some(refusal) = refused() {
                return refusal;
            }
            tokio::select! {
                () = self.refused.notified() => {}
                _ = self.udp.io.ready(Interest::ERROR) => {
                    let pending = self.udp.io.take_error();
                    // Nothing else clears this readiness.
                    let _ = self.udp.io.try_io(Interest::ERROR, || -> io::Result<()> {
                        Err(io::ErrorKind::WouldBlock.into())
                    });
                    if let Ok(Some(error)) = pending {
                        self.note(&error);
                    }
                }
            }
        }
    }

    fn note(&self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                self.refusals.fetch_add(1, Ordering::Relaxed);
            }
            // "Administratively prohibited" over IPv4 and over IPv6, and a firewall of this computer.
            io::ErrorKind::HostUnreachable | io::ErrorKind::PermissionDenied => {
                self.is_barred.store(true, Ordering::Relaxed);
            }
            _ => return,
        }
        self.refused.notify_one();
    }
}

impl AsyncUdpSocket for ConnectedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.udp.write_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.udp.try_send(transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // To QUIC, a datagram that cannot be sent is a lost one: no route at the moment, a
            // probe that is too large, or a server that is gone.
            Err(error) => {
                self.note(&error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self
            .udp
            .poll_recv(context, buffers, meta, |error| self.note(error));
        if let Poll::Ready(Ok(_)) = received {
            self.refusals.store(0, Ordering::Relaxed);
            let heard = self.made.elapsed().as_millis() as u64;
            self.heard.store(heard, Ordering::Relaxed);
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.io.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.udp.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.udp.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.udp.max_receive_segments()
    }
}

impl fmt::Debug for ConnectedSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("ConnectedSocket")
            .field(&self.udp.io)
            .finish()
    }
}
