//! The server's UDP socket: counts what is no QUIC of ours, and hears whose client is gone.
//!
//! A killed client says nothing. Its host answers our next datagram with ICMP "port unreachable", which QUIC alone does
//! not see: it would wait for ten seconds of silence.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{ready, Context, Poll};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::refusals::SentLog;

/// An error that waits on the socket is about another datagram than the one that meets it.
const ATTEMPTS: usize = 4;

pub(super) struct ListeningSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    sent: Mutex<SentLog>,
    on_datagram: Box<OnDatagram>,
}

type OnDatagram = dyn Fn(&[u8]) + Send + Sync;

impl ListeningSocket {
    /// `on_datagram` sees each datagram that comes.
    pub fn new(
        socket: std::net::UdpSocket,
        on_datagram: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        #[cfg(target_os = "linux")]
        super::refusals::ask_for(std::os::fd::AsFd::as_fd(&socket));
        Ok(Arc::new(Self {
            state: UdpSocketState::new((&socket).into())?,
            io: tokio::net::UdpSocket::from_std(socket)?,
            sent: Mutex::new(SentLog::new()),
            on_datagram: Box::new(on_datagram),
        }))
    }

    /// Call `refused` with each address whose host says that nobody listens there. Never ends.
    #[cfg(target_os = "linux")]
    pub async fn watch(&self, mut refused: impl FnMut(SocketAddr)) -> io::Result<()> {
        use std::os::fd::AsFd;
        let mut quotation = Vec::new();
        loop {
            self.io.ready(tokio::io::Interest::ERROR).await?;
            // Ends in `WouldBlock`, whatever ended it: that clears the readiness.
            let _ = self
                .io
                .try_io(tokio::io::Interest::ERROR, || -> io::Result<()> {
                    while let Ok(news) = super::refusals::next(self.io.as_fd(), &mut quotation) {
                        match news {
                            Some(address) if self.log(|sent| sent.knows(address, &quotation)) => {
                                refused(address);
                            }
                            _ => {}
                        }
                    }
                    Err(io::ErrorKind::WouldBlock.into())
                });
            // An error without an entry in the queue would wake us for ever.
            let _ = self.io.take_error();
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub async fn watch(&self, _refused: impl FnMut(SocketAddr)) -> io::Result<()> {
        std::future::pending().await
    }

    fn note(&self, transmit: &Transmit<'_>) {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        self.log(|sent| {
            for datagram in transmit.contents.chunks(segment.max(1)) {
                sent.note(transmit.destination, datagram);
            }
        });
    }

    fn log<T>(&self, work: impl FnOnce(&mut SentLog) -> T) -> T {
        work(&mut self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AsyncUdpSocket for ListeningSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(WritePoller(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.note(transmit);
        for _ in 0..ATTEMPTS {
            let sent = self.io.try_io(tokio::io::Interest::WRITABLE, || {
                self.state.try_send((&self.io).into(), transmit)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                // To QUIC a datagram that cannot leave is a lost one: no route for a moment, too large a probe.
                Ok(()) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(context))?;
            let received = self.io.try_io(tokio::io::Interest::READABLE, || {
                self.state.recv((&self.io).into(), buffers, meta)
            });
            // An error clears the readiness, or is taken off the socket: either way the loop ends.
            if let Ok(count) = received {
                for (buffer, meta) in buffers.iter().zip(&meta[..count]) {
                    let datagrams = buffer[..meta.len].chunks(meta.stride.max(1));
                    datagrams.for_each(&self.on_datagram);
                }
                return Poll::Ready(Ok(count));
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

impl fmt::Debug for ListeningSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("ListeningSocket")
            .field(&self.io)
            .finish()
    }
}

#[derive(Debug)]
struct WritePoller(Arc<ListeningSocket>);

impl UdpPoller for WritePoller {
    fn poll_writable(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.io.poll_send_ready(context)
    }
}
