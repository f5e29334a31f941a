//! Which datagrams cannot belong to our connections, by their first bytes (RFC 8999). Pure.

use quinn_proto::ConnectionIdGenerator;

use super::connection_ids::ConnectionIds;

/// The bit of a long header.
const LONG: u8 = 0x80;
const VERSION_1: u32 = 1;
/// A client's first datagram is at least this long (RFC 9000, section 14.1).
const MIN_INITIAL: usize = 1200;
/// Type bits of a long header: in an Initial or 0-RTT packet the client chose the connection id.
const TYPE: u8 = 0x30;
const INITIAL: u8 = 0x00;
const EARLY_DATA: u8 = 0x10;

/// Whether this datagram belongs to no connection of a server that gives out `ids`: no QUIC,
/// another version, or an unknown connection id.
///
/// A datagram that looks like the start of a connection is not judged: only decrypting it would
/// tell.
pub(super) fn is_unmatched(datagram: &[u8], ids: &ConnectionIds) -> bool {
    let Some(&flags) = datagram.first() else {
        return true;
    };
    if flags & LONG == 0 {
        let id = datagram.get(1..1 + ids.cid_len());
        return !id.is_some_and(|id| ids.are_ours(id));
    }
    let Some((version, rest)) = datagram[1..].split_first_chunk::<4>() else {
        return true;
    };
    let Some((&length, rest)) = rest.split_first() else {
        return true;
    };
    let Some(id) = rest.get(..usize::from(length)) else {
        return true;
    };
    if u32::from_be_bytes(*version) != VERSION_1 {
        return true;
    }
    match flags & TYPE {
        INITIAL => !ids.are_ours(id) && (id.len() < 8 || datagram.len() < MIN_INITIAL),
        EARLY_DATA => false,
        _ => !ids.are_ours(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids() -> ConnectionIds {
        ConnectionIds::new(7, None)
    }

    fn routable_ids() -> ConnectionIds {
        ConnectionIds::new(7, "0x1a2b3c4d5e6f7081".parse().ok())
    }

    fn of(parts: &[&[u8]], length: usize) -> Vec<u8> {
        let mut datagram = parts.concat();
        datagram.resize(length, 0);
        datagram
    }

    #[test]
    fn packets_of_our_connections_are_none() {
        let id = ids().generate_cid();
        let long = |flags| of(&[&[flags, 0, 0, 0, 1, 8], &id], 60);
        assert!(!is_unmatched(&of(&[&[0x40], &id], 40), &ids()));
        for flags in [0xc0, 0xd0, 0xe0] {
            assert!(!is_unmatched(&long(flags), &ids()), "{flags:x}");
        }
    }

    #[test]
    fn packets_that_a_load_balancer_routed_to_us_are_none() {
        let id = routable_ids().generate_cid();
        assert!(!is_unmatched(&of(&[&[0x40], &id], 40), &routable_ids()));
        let handshake = of(&[&[0xe0, 0, 0, 0, 1, 17], &id], 60);
        assert!(!is_unmatched(&handshake, &routable_ids()));
        assert!(is_unmatched(&of(&[&[0x40], &id], 40), &ids()));
    }

    #[test]
    fn a_new_connection_is_none() {
        let initial = of(&[&[0xc0, 0, 0, 0, 1, 8], &[9; 8]], 1200);
        assert!(!is_unmatched(&initial, &ids()));
    }

    #[test]
    fn noise_other_versions_and_invented_connections_are() {
        let invented = [9; 8];
        for datagram in [
            Vec::new(),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            vec![0xc0],
            of(&[&[0x40], &invented], 40),
            of(&[&[0x40]], 4),
            of(&[&[0xc0, 0, 0, 0, 1, 200]], 60),
            of(&[&[0xe0, 0, 0, 0, 1, 8], &invented], 1200),
            // an unknown version, version negotiation, a first datagram that is too short
            of(&[&[0xff, 0xfa, 0xce, 0xb0, 0x0c, 8], &invented], 1200),
            of(&[&[0xc0, 0, 0, 0, 0, 8], &invented], 1200),
            of(&[&[0xc0, 0, 0, 0, 1, 8], &invented], 1199),
        ] {
            assert!(is_unmatched(&datagram, &ids()), "{datagram:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = is_unmatched(&bytes, &ids());
            let _ = is_unmatched(&bytes, &routable_ids());
        }
    }
}
