//! A client's UDP socket, connected to its server, that notices when nobody listens there.
//!
//! The kernel tells a connected socket of ICMP "port unreachable". QUIC alone would learn of a killed server only from
//! its silence, ten seconds later.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::sync::Notify;

/// Refusals without a datagram in between that mean that the server is gone. One may be late news of a server that is
/// back by now, or forged by somebody who has seen one packet.
const REFUSALS_OF_A_DEAD_SERVER: u32 = 2;

pub(crate) struct ConnectedSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    /// Refusals since the last datagram that came.
    refusals: AtomicU32,
    refused: Notify,
}

impl ConnectedSocket {
    pub fn new(socket: std::net::UdpSocket, server: SocketAddr) -> io::Result<Arc<Self>> {
        // Elsewhere a connected socket takes no datagram with an address, which is what quinn sends. There only silence tells.
        if cfg!(target_os = "linux") {
            socket.connect(server)?;
        }
        Ok(Arc::new(Self {
            state: UdpSocketState::new((&socket).into())?,
            io: tokio::net::UdpSocket::from_std(socket)?,
            refusals: AtomicU32::new(0),
            refused: Notify::new(),
        }))
    }

    /// Wait until the server's host has said that nobody listens, before any answer came.
    pub async fn refused_once(&self) {
        self.refused_times(1).await;
    }

    /// Wait until a server that did answer is gone.
    pub async fn server_is_gone(&self) {
        self.refused_times(REFUSALS_OF_A_DEAD_SERVER).await;
    }

    async fn refused_times(&self, times: u32) {
        while self.refusals.load(Ordering::Relaxed) < times {
            tokio::select! {
                () = self.refused.notified() => {}
                _ = self.io.ready(Interest::ERROR) => {
                    let pending = self.io.take_error();
                    // Nothing else clears this readiness.
                    let _ = self.io.try_io(Interest::ERROR, || -> io::Result<()> {
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
        if error.kind() == io::ErrorKind::ConnectionRefused {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            self.refused.notify_one();
        }
    }
}

impl AsyncUdpSocket for ConnectedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(WritePoller(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.io.try_io(Interest::WRITABLE, || {
            self.state.try_send((&self.io).into(), transmit)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // To QUIC a datagram that cannot leave is a lost one: no route for a moment, too large a probe, a server that is gone.
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
        loop {
            ready!(self.io.poll_recv_ready(context))?;
            let received = self.io.try_io(Interest::READABLE, || {
                self.state.recv((&self.io).into(), buffers, meta)
            });
            match received {
                Ok(count) => {
                    self.refusals.store(0, Ordering::Relaxed);
                    return Poll::Ready(Ok(count));
                }
                // Clears the readiness, or takes one error off the socket: either way the loop ends.
                Err(error) => self.note(&error),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

impl fmt::Debug for ConnectedSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("ConnectedSocket")
            .field(&self.io)
            .finish()
    }
}

#[derive(Debug)]
struct WritePoller(Arc<ConnectedSocket>);

impl UdpPoller for WritePoller {
    fn poll_writable(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.io.poll_send_ready(context)
    }
}
