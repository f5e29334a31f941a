//! The link settings of our endpoints. Each number stands here once, with its reason.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use quinn::{MtuDiscoveryConfig, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use super::datagram_size;
use crate::congestion::{self, DedicatedLinkConfig, Sharing};

/// Settings of both ends; [`client`] and [`server`] add the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSettings {
    /// Who else uses the path, which selects the congestion controller.
    pub sharing: Sharing,
    /// Flow control: unread bytes of one stream. Three raw 640x480 images are 2.8 MB and must not
    /// wait for credit.
    pub stream_receive_window: u32,
    /// The same for a connection: what a peer can make us hold beyond the accounts in
    /// [`crate::link::limits`].
    pub connection_receive_window: u32,
    /// Unacknowledged bytes that are kept; further writes wait.
    pub send_window: u64,
    /// Largest datagram to send or receive, if the route carries it.
    pub largest_datagram: u16,
    /// Round trip assumed before the first measurement. With quinn's 333 ms a lost first packet
    /// costs a second.
    pub initial_rtt: Duration,
    /// Keep-alive interval of a silent client. Finds a dead server within seconds, and keeps the
    /// NAT's entry; the window does not shrink meanwhile.
    pub keep_alive: Duration,
    /// Idle timeout. Longer than a Wi-Fi roam.
    pub idle: Duration,
    /// Socket buffer to ask for in each direction. Linux's default of 212,992 bytes overflows at
    /// the receiver when a request arrives in one flight.
    pub socket_buffer_bytes: usize,
    /// Send repair with messages where the path loses packets, if the peer reads it, and read the
    /// peer's.
    pub repair: bool,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            sharing: Sharing::default(),
            stream_receive_window: 16 << 20,
            connection_receive_window: 32 << 20,
            send_window: 32 << 20,
            largest_datagram: datagram_size::LARGEST,
            initial_rtt: Duration::from_millis(50),
            keep_alive: Duration::from_secs(1),
            idle: Duration::from_secs(10),
            socket_buffer_bytes: 8 << 20,
            repair: true,
        }
    }
}

impl LinkSettings {
    /// The defaults; with `dedicated_link` those for a link that nobody else uses.
    pub fn with_dedicated_link(dedicated_link: bool) -> Self {
        let sharing = match dedicated_link {
            true => Sharing::DedicatedLink(DedicatedLinkConfig::default()),
            false => Sharing::default(),
        };
        Self {
            sharing,
            ..Self::default()
        }
    }

    pub fn is_dedicated(&self) -> bool {
        matches!(self.sharing, Sharing::DedicatedLink(_))
    }
}

/// quinn's settings for a client: it opens streams, sends keep-alives, and its route may carry
/// datagrams of `route_datagram` bytes.
pub fn client(link: &LinkSettings, buffers: SocketBuffers, route_datagram: u16) -> TransportConfig {
    let mut config = both(link, buffers, route_datagram);
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .keep_alive_interval(Some(link.keep_alive));
    config
}

/// quinn's settings for a server, which lets each client open `requests` streams at a time. It
/// sends ordinary datagrams: its answers are small, and these settings serve all routes.
pub fn server(link: &LinkSettings, buffers: SocketBuffers, requests: u32) -> TransportConfig {
    let mut config = both(link, buffers, datagram_size::ORDINARY);
    config.max_concurrent_bidi_streams(VarInt::from_u32(requests));
    config
}

fn both(link: &LinkSettings, buffers: SocketBuffers, route_datagram: u16) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(route_datagram.min(link.largest_datagram));
    let idle_ms = u32::try_from(link.idle.as_millis()).unwrap_or(u32::MAX);

    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(mtu))
        .stream_receive_window(VarInt::from_u32(link.stream_receive_window))
        .receive_window(VarInt::from_u32(link.connection_receive_window))
        .send_window(link.send_window)
        .initial_rtt(link.initial_rtt)
        .max_idle_timeout(Some(VarInt::from_u32(idle_ms).into()))
        // The protocol has no unidirectional streams.
        .max_concurrent_uni_streams(VarInt::from_u32(0));
    let mut sharing = link.sharing.clone();
    if let Sharing::Shared(shared) = &mut sharing {
        shared.short_path_window = shared.short_path_window.min(buffers.payload());
    }
    congestion::apply(&sharing, &mut config);
    config
}

/// The buffers that the kernel granted, as it reports them (Linux reports twice the size).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketBuffers {
    pub receive: usize,
    pub send: usize,
}

/// Smaller buffers overflow when a few requests arrive in one flight.
const ENOUGH_BUFFER: usize = 2 << 20;

impl SocketBuffers {
    /// Most bytes that the peer's socket buffer holds, if it was granted the same as ours. That is
    /// so on short paths: within one host the limits are the same for all. The kernel reports twice
    /// what it granted, because it counts headers and slack, too.
    fn payload(&self) -> u64 {
        self.receive as u64 / 2
    }

    /// A warning for the operator if the system's limits cost packets.
    pub fn shortage(&self) -> Option<String> {
        let least = self.receive.min(self.send);
        (least < ENOUGH_BUFFER).then(|| {
            format!(
                "the kernel grants UDP sockets {least} bytes of buffer, less than {ENOUGH_BUFFER} lose packets under load; \
                 allow more with: sysctl -w net.core.rmem_max=8388608 net.core.wmem_max=8388608"
            )
        })
    }
}

/// A UDP socket with large buffers, bound to `address`.
pub fn bind(
    address: SocketAddr,
    link: &LinkSettings,
) -> std::io::Result<(UdpSocket, SocketBuffers)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        // [::] accepts IPv4, too, whatever the system's default.
        socket.set_only_v6(false)?;
    }
    // The kernel limits the sizes silently; the caller reads them back.
    let _ = socket.set_recv_buffer_size(link.socket_buffer_bytes);
    let _ = socket.set_send_buffer_size(link.socket_buffer_bytes);
    let buffers = SocketBuffers {
        receive: socket.recv_buffer_size()?,
        send: socket.send_buffer_size()?,
    };
    socket.bind(&address.into())?;
    Ok((socket.into(), buffers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_larger_buffers_than_the_systems_default() {
        let any_port = "127.0.0.1:0".parse().unwrap();
        let plain = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        let (_, buffers) = bind(any_port, &LinkSettings::default()).unwrap();
        assert!(buffers.receive >= plain.recv_buffer_size().unwrap());
        assert!(buffers.send >= plain.send_buffer_size().unwrap());
    }

    #[test]
    fn small_buffers_are_worth_a_word() {
        let buffers = |receive, send| SocketBuffers { receive, send };
        assert_eq!(buffers(8 << 20, 8 << 20).shortage(), None);
        let shortage = buffers(425_984, 8 << 20).shortage().unwrap();
        assert!(shortage.contains("425984") && shortage.contains("rmem_max"));
    }

    #[test]
    fn a_taken_port_is_refused() {
        let link = LinkSettings::default();
        let (first, _) = bind("127.0.0.1:0".parse().unwrap(), &link).unwrap();
        let again = bind(first.local_addr().unwrap(), &link);
        assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    }
}
