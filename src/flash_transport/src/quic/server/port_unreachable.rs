//! Reports of other hosts that nothing listens where we sent a datagram (ICMP "port unreachable").
//!
//! An unconnected socket gets them only through its error queue. An attacker who guesses a client's
//! address can send such reports, so they only count if they quote a datagram that we sent
//! recently.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;

/// Length of the prefix that identifies a datagram: flags, connection id and the first encrypted
/// bytes.
const PREFIX: usize = 20;
/// Number of hashes kept: a datagram is still known if no more than about this many were sent after
/// it.
const REMEMBERED: usize = 4096;

/// Remembers which datagrams were sent where, in fixed memory.
#[derive(Debug)]
pub(super) struct SentLog {
    hashes: Vec<u64>,
    state: RandomState,
}

impl SentLog {
    pub fn new() -> Self {
        Self {
            hashes: vec![0; REMEMBERED],
            state: RandomState::new(),
        }
    }

    pub fn note(&mut self, to: SocketAddr, datagram: &[u8]) {
        if let Some(hash) = self.hash(to, datagram) {
            self.hashes[hash as usize % REMEMBERED] = hash;
        }
    }

    /// Whether `quoted` is the start of a datagram that was recently sent to this address.
    pub fn knows(&self, to: SocketAddr, quoted: &[u8]) -> bool {
        self.hash(to, quoted)
            .is_some_and(|hash| self.hashes[hash as usize % REMEMBERED] == hash)
    }

    fn hash(&self, to: SocketAddr, datagram: &[u8]) -> Option<u64> {
        let prefix = datagram.get(..PREFIX)?;
        Some(
            self.state
                .hash_one((to.ip().to_canonical(), to.port(), prefix)),
        )
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::{ask_for, next};

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::mem::{size_of, zeroed, MaybeUninit};
    use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
    use std::os::fd::{AsRawFd, BorrowedFd};

    use libc::{c_int, c_void};

    /// Longest quotation that is read; hosts quote up to 576 bytes (RFC 1812, section 4.3.2.3).
    const QUOTATION: usize = 128;
    const CONTROL: usize = 512;

    /// Have the kernel queue such reports. Failing is no error: without them, only silence tells
    /// that a client is gone.
    pub fn ask_for(socket: BorrowedFd<'_>) {
        let on: c_int = 1;
        for (level, option) in [
            (libc::SOL_IP, libc::IP_RECVERR),
            (libc::SOL_IPV6, libc::IPV6_RECVERR),
        ] {
            // SAFETY: the option's value is an int that outlives the call.
            unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    level,
                    option,
                    std::ptr::from_ref(&on).cast::<c_void>(),
                    size_of::<c_int>() as libc::socklen_t,
                );
            }
        }
    }

    /// Read the next entry of the error queue, and the start of the quoted datagram into
    /// `quotation`.
    ///
    /// `Some((address, length))` for a refusal, `None` for other errors; `WouldBlock` if the queue
    /// is empty.
    pub fn next(socket: BorrowedFd<'_>, quotation: &mut Vec<u8>) -> io::Result<Option<SocketAddr>> {
        // SAFETY: plain C structs, for which zeros are valid.
        let (mut name, mut message) =
            unsafe { (zeroed::<libc::sockaddr_storage>(), zeroed::<libc::msghdr>()) };
        // Aligned as `cmsghdr` requires.
        let mut control = [MaybeUninit::<u64>::zeroed(); CONTROL / size_of::<u64>()];
        quotation.clear();
        quotation.resize(QUOTATION, 0);
        let mut part = libc::iovec {
            iov_base: quotation.as_mut_ptr().cast::<c_void>(),
            iov_len: quotation.len(),
        };
        message.msg_name = std::ptr::from_mut(&mut name).cast::<c_void>();
        message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast::<c_void>();
        message.msg_controllen = size_of_val(&control) as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: every pointer in `message` is to a buffer of the given length, which outlives the
        // call.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, flags) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        quotation.truncate(received);

        // SAFETY: the kernel has filled name and control up to the lengths in `message`.
        Ok(unsafe { is_refusal(&message).then(|| address(&name)).flatten() })
    }

    /// SAFETY: `message` must have been filled by `recvmsg`.
    unsafe fn is_refusal(message: &libc::msghdr) -> bool {
        // SAFETY: the kernel has made the headers and their lengths, which are checked below.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(message);
            while let Some(found) = header.as_ref() {
                let kind = (found.cmsg_level, found.cmsg_type);
                let long_enough = found.cmsg_len as u64
                    >= u64::from(libc::CMSG_LEN(size_of::<libc::sock_extended_err>() as u32));
                if long_enough
                    && (kind == (libc::SOL_IP, libc::IP_RECVERR)
                        || kind == (libc::SOL_IPV6, libc::IPV6_RECVERR))
                {
                    let error = libc::CMSG_DATA(header)
                        .cast::<libc::sock_extended_err>()
                        .read_unaligned();
                    return error.ee_errno == libc::ECONNREFUSED as u32
                        && matches!(
                            error.ee_origin,
                            libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6
                        );
                }
                header = libc::CMSG_NXTHDR(message, header);
            }
            false
        }
    }

    /// SAFETY: `name` must hold an address of the family that it names.
    unsafe fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
        let name = std::ptr::from_ref(name);
        // SAFETY: it is a reference's.
        match c_int::from(unsafe { (*name).ss_family }) {
            libc::AF_INET => {
                // SAFETY: the family says that it is one.
                let name = unsafe { &*name.cast::<libc::sockaddr_in>() };
                let ip = u32::from_be(name.sin_addr.s_addr).into();
                Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let name = unsafe { &*name.cast::<libc::sockaddr_in6>() };
                let ip = name.sin6_addr.s6_addr.into();
                let port = u16::from_be(name.sin6_port);
                Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_what_was_sent_to_an_address_is_known_there() {
        let mut log = SentLog::new();
        let client = address("10.0.0.7:4433");
        let datagram = [7; 60];
        log.note(client, &datagram);
        assert!(log.knows(client, &datagram));
        assert!(log.knows(client, &datagram[..PREFIX]), "a quotation is cut");
        assert!(!log.knows(address("10.0.0.7:4434"), &datagram));
        assert!(!log.knows(address("10.0.0.8:4433"), &datagram));
        assert!(!log.knows(client, &[8; 60]));
    }

    #[test]
    fn a_quotation_too_short_to_identify_anything_is_not_known() {
        let mut log = SentLog::new();
        let client = address("10.0.0.7:4433");
        log.note(client, &[7; 60]);
        log.note(client, &[7; 3]);
        assert!(!log.knows(client, &[7; PREFIX - 1]));
        assert!(!log.knows(client, &[]));
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_is_the_same_client() {
        let mut log = SentLog::new();
        log.note(address("[::ffff:10.0.0.7]:4433"), &[7; 60]);
        assert!(log.knows(address("10.0.0.7:4433"), &[7; 60]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_closed_port_refuses_with_the_datagram_that_it_was_sent() {
        use std::net::UdpSocket;
        use std::os::fd::AsFd;

        let closed = UdpSocket::bind("127.0.0.1:0").unwrap();
        let gone = closed.local_addr().unwrap();
        drop(closed);
        for listen in ["127.0.0.1:0", "[::]:0"] {
            let socket = UdpSocket::bind(listen).unwrap();
            ask_for(socket.as_fd());
            let to = match socket.local_addr().unwrap() {
                SocketAddr::V4(_) => gone,
                SocketAddr::V6(_) => address(&format!("[::ffff:127.0.0.1]:{}", gone.port())),
            };
            let datagram: Vec<u8> = (0..100).collect();
            socket.send_to(&datagram, to).unwrap();
            let mut quotation = Vec::new();
            let refused = loop {
                // On loopback the refusal is there when the send returns, or a moment later.
                match next(socket.as_fd(), &mut quotation) {
                    Ok(refused) => break refused.unwrap(),
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                }
            };
            assert_eq!(refused.ip().to_canonical(), gone.ip());
            assert_eq!(refused.port(), gone.port());
            assert_eq!(quotation, datagram);
        }
    }
}
