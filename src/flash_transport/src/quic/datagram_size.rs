//! The size of our datagrams: as large as the route's first link carries, if the whole path does.
//!
//! Most of a packet's cost does not depend on its size. Within one host, where the interface
//! carries 64 KiB, large datagrams save a quarter of a request's time and a third of its CPU; on
//! Ethernet with jumbo frames there are a sixth as many.

use std::net::UdpSocket;

/// Four of them fill a batch. Larger ones gain nothing more, and the loss of one would cost more.
pub const LARGEST: u16 = (BATCH / 4) as u16;
/// What every Ethernet carries.
pub const ORDINARY: u16 = 1500 - HEADERS;
/// What every Ethernet carries through a relay, which has a header of its own.
pub const RELAYED: u16 = ORDINARY - RELAY_HEADER;

const RELAY_HEADER: u16 = crate::relay::message::DATA_HEADER as u16;
/// The headers of IPv6 and UDP.
const HEADERS: u16 = 48;
/// QUIC requires this of every path (RFC 9000, section 14).
const LEAST: u16 = 1200;
/// Most bytes that the kernel passes on in one piece (GSO): less than 64 KiB with the headers of
/// Ethernet, IPv6 and UDP. It accepts longer batches, too, but splits them into datagrams on the
/// way, and the receiver is woken for each.
const BATCH: usize = 65_535 - 14 - HEADERS as usize;
/// The largest IP packet.
const RECEIVED: usize = 65_535;

/// The largest datagram to try on the route of the connected `socket`. QUIC's probes find out
/// whether the rest of the path carries it.
pub fn for_route_of(socket: &UdpSocket) -> u16 {
    interface_mtu(socket).map_or(ORDINARY, for_interface)
}

/// How many datagrams of `size` to send in one call.
pub fn sent_at_once(size: u16) -> usize {
    (BATCH / usize::from(size)).max(1)
}

/// How many buffers of `size` hold the largest batch that the kernel delivers in one piece (GRO).
pub fn received_at_once(size: u16) -> usize {
    RECEIVED.div_ceil(usize::from(size.max(1)))
}

fn for_interface(mtu: u32) -> u16 {
    let room = mtu.saturating_sub(u32::from(HEADERS));
    u16::try_from(room)
        .unwrap_or(u16::MAX)
        .clamp(LEAST, LARGEST)
}

/// The MTU of the route to the address that `socket` is connected to, if the kernel knows it.
#[cfg(target_os = "linux")]
fn interface_mtu(socket: &UdpSocket) -> Option<u32> {
    use std::mem::size_of;
    use std::os::fd::AsRawFd;

    let (level, option) = match socket.peer_addr().ok()? {
        std::net::SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        std::net::SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut mtu: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is an int; it and its length outlive the call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_mut(&mut mtu).cast(),
            &mut length,
        )
    };
    match outcome {
        0 => u32::try_from(mtu).ok(),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn interface_mtu(_socket: &UdpSocket) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_fill_the_interface() {
        assert_eq!(for_interface(1500), ORDINARY);
        assert_eq!(for_interface(9000), 8952);
        // A tunnel, or a link with a smaller MTU than IPv6 and QUIC require.
        assert_eq!(for_interface(1420), 1372);
        assert_eq!(for_interface(576), LEAST);
        assert_eq!(for_interface(65_536), LARGEST);
        assert_eq!(for_interface(u32::MAX), LARGEST);
    }

    #[test]
    fn batches_fit_into_what_the_kernel_takes() {
        for size in [LEAST, ORDINARY, 8952, LARGEST, u16::MAX] {
            let batch = sent_at_once(size) * usize::from(size);
            assert!(batch <= BATCH || sent_at_once(size) == 1, "{size}");
            assert!(
                received_at_once(size) * usize::from(size) >= RECEIVED,
                "{size}"
            );
        }
        assert_eq!(sent_at_once(LARGEST), 4);
    }

    /// What a second socket of this host receives of one batch: the length of the first piece, and
    /// of each datagram in it.
    #[cfg(target_os = "linux")]
    fn first_piece(address: &str, size: u16) -> Option<(usize, usize)> {
        use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
        use std::io::IoSliceMut;

        let to = UdpSocket::bind(address).ok()?;
        let from = UdpSocket::bind(address).ok()?;
        let receiver = UdpSocketState::new((&to).into()).unwrap();
        let sender = UdpSocketState::new((&from).into()).unwrap();
        let at_once = sent_at_once(size).min(sender.max_gso_segments());
        if at_once < 2 || receiver.gro_segments() < 2 {
            return None;
        }
        to.set_nonblocking(false).unwrap();
        let transmit = Transmit {
            destination: to.local_addr().unwrap(),
            ecn: None,
            contents: &vec![1; at_once * usize::from(size)],
            segment_size: Some(size.into()),
            src_ip: None,
        };
        sender.try_send((&from).into(), &transmit).unwrap();
        let mut buffer = vec![0; 1 << 16];
        let mut meta = [RecvMeta::default()];
        receiver
            .recv((&to).into(), &mut [IoSliceMut::new(&mut buffer)], &mut meta)
            .unwrap();
        Some((meta[0].len, meta[0].stride))
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_batch_passes_within_this_host_in_one_piece() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            for size in [LARGEST, 8952] {
                // A kernel without GSO, or a machine without IPv6, cannot show this.
                if let Some(piece) = first_piece(address, size) {
                    let size = usize::from(size);
                    assert_eq!(piece, (BATCH / size * size, size), "{address}");
                }
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_way_to_this_host_carries_large_ones() {
        for address in ["127.0.0.1:9", "[::1]:9"] {
            let any = address.replace(":9", ":0");
            // A machine without IPv6 cannot show this.
            let Ok(socket) = UdpSocket::bind(any) else {
                continue;
            };
            assert_eq!(for_route_of(&socket), ORDINARY, "not connected: {address}");
            socket.connect(address).unwrap();
            assert_eq!(for_route_of(&socket), LARGEST, "{address}");
        }
    }
}
