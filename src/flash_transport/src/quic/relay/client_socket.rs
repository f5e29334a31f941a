//! A client's UDP socket whose server is behind a relay.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use ring::rand::{SecureRandom, SystemRandom};

use super::ways::Ways;
use crate::quic::datagram_size;
use crate::quic::udp::{LargestDatagrams, Udp};
use crate::relay::access::RelayAccess;
use crate::relay::message::{EndId, DATA_HEADER};
use crate::relay::token::Role;

pub(crate) struct RelayedSocket {
    udp: Arc<Udp>,
    ways: Arc<Ways>,
    made: Instant,
    /// Milliseconds from then to the last datagram that arrived.
    heard: AtomicU64,
}

impl RelayedSocket {
    pub fn new(
        socket: std::net::UdpSocket,
        relay: SocketAddr,
        access: &RelayAccess,
    ) -> io::Result<Arc<Self>> {
        let largest = LargestDatagrams {
            sent: datagram_size::ORDINARY,
            received: datagram_size::ORDINARY,
        };
        let udp = Udp::new(socket, largest)?;
        let ways = Ways::new(udp.clone(), Role::Client, random_id()?, access);
        ways.set_relay(relay);
        Ok(Arc::new(Self {
            udp,
            ways,
            made: Instant::now(),
            heard: AtomicU64::new(0),
        }))
    }

    /// See [`Ways::server`].
    pub async fn server(&self) -> Result<SocketAddr, String> {
        let server = self.ways.server();
        server.await.map(|address| self.udp.form_of(address))
    }

    /// The largest datagram of QUIC that fits an Ethernet behind its header.
    pub fn largest_datagram(&self) -> u16 {
        datagram_size::RELAYED
    }

    /// When the last datagram arrived, or when the socket was made; exact to a millisecond.
    pub fn last_heard(&self) -> Instant {
        self.made + Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }
}

impl AsyncUdpSocket for RelayedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.udp.write_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.ways.try_send(transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // To QUIC, a datagram that cannot be sent is a lost one.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.ways.poll_recv(context, buffers, meta, |_| {});
        if let Poll::Ready(Ok(count)) = received {
            if meta[..count].iter().any(|meta| meta.len > 0) {
                let heard = self.made.elapsed().as_millis() as u64;
                self.heard.store(heard, Ordering::Relaxed);
            }
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

impl fmt::Debug for RelayedSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("RelayedSocket")
            .field(&self.udp.io)
            .finish()
    }
}

fn random_id() -> io::Result<EndId> {
    let mut id = EndId::default();
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(id)
}

const _: () =
    assert!(datagram_size::RELAYED as usize + DATA_HEADER == datagram_size::ORDINARY as usize);
