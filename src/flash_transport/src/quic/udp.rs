//! What the UDP sockets of client and server share.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::UdpPoller;
use tokio::io::Interest;

use super::datagram_size;

#[derive(Debug)]
pub(crate) struct Udp {
    pub io: tokio::net::UdpSocket,
    pub state: UdpSocketState,
    pub largest: LargestDatagrams,
    is_ipv6: bool,
}

/// Largest datagrams to send and to receive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LargestDatagrams {
    pub sent: u16,
    pub received: u16,
}

impl Udp {
    pub fn new(socket: std::net::UdpSocket, largest: LargestDatagrams) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            is_ipv6: socket.local_addr()?.is_ipv6(),
            state: UdpSocketState::new((&socket).into())?,
            io: tokio::net::UdpSocket::from_std(socket)?,
            largest,
        }))
    }

    pub fn write_poller(self: &Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(WritePoller(self.clone()))
    }

    pub fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || {
            self.state.try_send((&self.io).into(), transmit)
        })
    }

    /// `address` as this socket takes it: one of IPv6 takes IPv4 addresses in a form of IPv6.
    pub fn form_of(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(ip) if self.is_ipv6 => (ip.to_ipv6_mapped(), address.port()).into(),
            _ => address,
        }
    }

    /// Whether this socket can send to `address`, by its family.
    pub fn reaches(&self, address: SocketAddr) -> bool {
        self.is_ipv6 || address.is_ipv4()
    }

    pub fn max_transmit_segments(&self) -> usize {
        let fitting = datagram_size::sent_at_once(self.largest.sent);
        self.state.max_gso_segments().min(fitting)
    }

    pub fn max_receive_segments(&self) -> usize {
        let fitting = datagram_size::received_at_once(self.largest.received);
        self.state.gro_segments().min(fitting)
    }

    /// Receive datagrams; `failed` sees each pending error of the socket first.
    pub fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
        mut failed: impl FnMut(&io::Error),
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(context))?;
            let received = self.io.try_io(Interest::READABLE, || {
                self.state.recv((&self.io).into(), buffers, meta)
            });
            match received {
                Ok(count) => return Poll::Ready(Ok(count)),
                // Clears the readiness, or takes one error off the socket; either way the loop
                // ends.
                Err(error) => failed(&error),
            }
        }
    }
}

#[derive(Debug)]
struct WritePoller(Arc<Udp>);

impl UdpPoller for WritePoller {
    fn poll_writable(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.io.poll_send_ready(context)
    }
}
