//! The server's UDP socket: counts datagrams of no connection, and receives reports of clients that
//! are gone.
//!
//! A killed client sends nothing. Its host answers our next datagram with ICMP "port unreachable",
//! which QUIC alone does not see: it would wait for ten seconds of silence.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{ready, Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::port_unreachable::SentLog;
use crate::quic::datagram_size;
use crate::quic::relay::ways::Ways;
use crate::quic::udp::{LargestDatagrams, Udp};
use crate::relay::access::RelayAccess;
use crate::relay::message::EndId;
use crate::relay::token::Role;

/// A pending error concerns another datagram than the one whose call returns it.
const ATTEMPTS: usize = 4;

pub(super) struct ListeningSocket {
    udp: Arc<Udp>,
    /// To clients behind a relay, if there is one.
    ways: Option<Arc<Ways>>,
    sent: Mutex<SentLog>,
    on_datagram: Box<OnDatagram>,
}

type OnDatagram = dyn Fn(&[u8]) + Send + Sync;

impl ListeningSocket {
    /// Receives datagrams of up to `largest` bytes, and sends ordinary ones. Calls `on_datagram`
    /// for each that arrives.
    pub fn new(
        socket: std::net::UdpSocket,
        largest: u16,
        relay: Option<(&RelayAccess, EndId)>,
        on_datagram: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        #[cfg(target_os = "linux")]
        super::port_unreachable::ask_for(std::os::fd::AsFd::as_fd(&socket));
        let largest = LargestDatagrams {
            sent: datagram_size::ORDINARY,
            received: largest,
        };
        let udp = Udp::new(socket, largest)?;
        let ways = relay.map(|(access, end)| Ways::new(udp.clone(), Role::Server, end, access));
        Ok(Arc::new(Self {
            udp,
            ways,
            sent: Mutex::new(SentLog::new()),
            on_datagram: Box::new(on_datagram),
        }))
    }

    pub fn ways(&self) -> Option<&Arc<Ways>> {
        self.ways.as_ref()
    }

    /// Call `refused` with each address whose host reports that nothing listens there. Never
    /// returns.
    #[cfg(target_os = "linux")]
    pub async fn watch(&self, mut refused: impl FnMut(SocketAddr)) -> io::Result<()> {
        use std::os::fd::AsFd;
        let mut quotation = Vec::new();
        loop {
            self.udp.io.ready(tokio::io::Interest::ERROR).await?;
            // Returns `WouldBlock` in any case: that clears the readiness.
            let _ = self
                .udp
                .io
                .try_io(tokio::io::Interest::ERROR, || -> io::Result<()> {
                    while let Ok(news) =
                        super::port_unreachable::next(self.udp.io.as_fd(), &mut quotation)
                    {
                        match news {
                            Some(address) if self.log(|sent| sent.knows(address, &quotation)) => {
                                refused(address);
                            }
                            _ => {}
                        }
                    }
                    Err(io::ErrorKind::WouldBlock.into())
                });
            // An error without an entry in the queue would wake this task for ever.
            let _ = self.udp.io.take_error();
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
        self.udp.write_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let ways = self.ways.as_ref();
        let ways = ways.filter(|_| Ways::lead_to(transmit.destination));
        if ways.is_none() {
            self.note(transmit);
        }
        for _ in 0..ATTEMPTS {
            let sent = match ways {
                Some(ways) => ways.try_send(transmit),
                None => self.udp.try_send(transmit),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                // To QUIC, a datagram that cannot be sent is a lost one: no route at the moment, or
                // a probe that is too large.
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
        let received = match &self.ways {
            Some(ways) => ways.poll_recv(context, buffers, meta, |_| {}),
            None => self.udp.poll_recv(context, buffers, meta, |_| {}),
        };
        let count = ready!(received)?;
        for (buffer, meta) in buffers.iter().zip(&meta[..count]) {
            let datagrams = buffer[..meta.len].chunks(meta.stride.max(1));
            datagrams.for_each(&self.on_datagram);
        }
        Poll::Ready(Ok(count))
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

impl fmt::Debug for ListeningSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("ListeningSocket")
            .field(&self.udp.io)
            .finish()
    }
}
