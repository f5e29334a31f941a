//! The connection ids of a server, and the server id in them by which a load balancer routes.
//!
//! With a server id they have the plaintext format of QUIC-LB (draft-ietf-quic-load-balancers, "CID
//! format"), as Network Load Balancer of AWS reads it:
//!
//! ```text
//! octet 0      config rotation (3 bits, 0), length of the id without this octet (5 bits)
//! octets 1-8   server id
//! octets 9-16  nonce
//! ```
//!
//! The nonce is one of our ordinary connection ids, so that a restarted server recognises the ids
//! of its former connections in both formats.

use std::fmt;
use std::str::FromStr;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, HashedConnectionIdGenerator, InvalidCid};

const SERVER_ID: usize = 8;
const NONCE: usize = 8;
const ROUTABLE: usize = 1 + SERVER_ID + NONCE;
/// Config rotation 0, and the length.
const FIRST_OCTET: u8 = (ROUTABLE - 1) as u8;

/// A server's id behind a load balancer, unique among the servers of one listener.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ServerId([u8; SERVER_ID]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a server id is 0x and 16 lowercase hexadecimal digits, such as 0x1a2b3c4d5e6f7081")]
pub struct ServerIdError;

impl FromStr for ServerId {
    type Err = ServerIdError;

    fn from_str(text: &str) -> Result<Self, ServerIdError> {
        let digits = text.strip_prefix("0x").ok_or(ServerIdError)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 2 * SERVER_ID || !digits.bytes().all(is_digit) {
            return Err(ServerIdError);
        }
        let number = u64::from_str_radix(digits, 16).map_err(|_| ServerIdError)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "0x{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Makes and recognises the connection ids of one server.
pub(super) struct ConnectionIds {
    server_id: Option<ServerId>,
    ordinary: HashedConnectionIdGenerator,
}

impl ConnectionIds {
    pub fn new(key: u64, server_id: Option<ServerId>) -> Self {
        Self {
            server_id,
            ordinary: HashedConnectionIdGenerator::from_key(key),
        }
    }

    /// Whether these bytes are an id that this server could have made, or another one with the
    /// same identity: it resets the connections of one that is gone.
    pub fn are_ours(&self, id: &[u8]) -> bool {
        if id.len() != self.cid_len() {
            return false;
        }
        let nonce = match self.server_id {
            None => id,
            Some(_) if id[0] == FIRST_OCTET => &id[1 + SERVER_ID..],
            Some(_) => return false,
        };
        self.ordinary.validate(&ConnectionId::new(nonce)).is_ok()
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let nonce = self.ordinary.generate_cid();
        match self.server_id {
            None => nonce,
            Some(server_id) => ConnectionId::new(&[&prefix(server_id)[..], &nonce].concat()),
        }
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match self.are_ours(id) {
            true => Ok(()),
            false => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        match self.server_id {
            None => NONCE,
            Some(_) => ROUTABLE,
        }
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

fn prefix(server_id: ServerId) -> [u8; 1 + SERVER_ID] {
    let mut bytes = [FIRST_OCTET; 1 + SERVER_ID];
    bytes[1..].copy_from_slice(&server_id.0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn routable(text: &str) -> ConnectionIds {
        ConnectionIds::new(7, Some(text.parse().expect("a server id")))
    }

    #[test]
    fn the_server_id_begins_at_the_second_octet() {
        let mut ids = routable("0x1a2b3c4d5e6f7081");
        let id = ids.generate_cid();
        assert_eq!(id.len(), 17);
        assert_eq!(id.len(), ids.cid_len());
        assert_eq!(id[0], 0x10);
        assert_eq!(id[1..9], [0x1a, 0x2b, 0x3c, 0x4d, 0x5e, 0x6f, 0x70, 0x81]);
    }

    #[test]
    fn the_nonces_of_two_ids_differ_and_nothing_else() {
        let mut ids = routable("0x00000000000000ff");
        let (one, other) = (ids.generate_cid(), ids.generate_cid());
        assert_eq!(one[..9], other[..9]);
        assert_ne!(one[9..], other[9..]);
    }

    #[test]
    fn a_restarted_server_recognises_its_ids() {
        let id = routable("0x1a2b3c4d5e6f7081").generate_cid();
        assert!(routable("0x1a2b3c4d5e6f7081").validate(&id).is_ok());
    }

    #[test]
    fn ids_of_another_key_format_or_rotation_are_not_recognised() {
        let mut ids = routable("0x1a2b3c4d5e6f7081");
        let id = ids.generate_cid();
        // another server of the same identity resets the connection, if this one is gone
        assert!(routable("0x1a2b3c4d5e6f7082").validate(&id).is_ok());
        let other_key = ConnectionIds::new(8, "0x1a2b3c4d5e6f7081".parse().ok());
        assert!(other_key.validate(&id).is_err());
        let mut ordinary = ConnectionIds::new(7, None);
        assert!(ordinary.validate(&id).is_err());
        assert!(ids.validate(&ordinary.generate_cid()).is_err());
        let mut rotated = id.to_vec();
        rotated[0] |= 0x20;
        assert!(!ids.are_ours(&rotated));
    }

    #[test]
    fn without_a_server_id_they_are_eight_bytes() {
        let mut ids = ConnectionIds::new(7, None);
        let id = ids.generate_cid();
        assert_eq!((id.len(), ids.cid_len()), (8, 8));
        assert!(ids.validate(&id).is_ok());
    }

    #[test]
    fn a_server_id_is_read_as_load_balancers_write_it() {
        let text = "0x00ab3c4d5e6f7081";
        assert_eq!(
            text.parse::<ServerId>()
                .map(|id| id.to_string())
                .ok()
                .as_deref(),
            Some(text)
        );
        for wrong in [
            "",
            "1a2b3c4d5e6f7081",
            "0x1A2B3C4D5E6F7081",
            "0x1a2b3c4d5e6f70",
            "0x1a2b3c4d5e6f708199",
            "0x+a2b3c4d5e6f7081",
            "0xéa2b3c4d5e6f708",
        ] {
            assert_eq!(wrong.parse::<ServerId>(), Err(ServerIdError), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..=20)) {
            let id = ConnectionId::new(&bytes);
            let _ = routable("0x1a2b3c4d5e6f7081").validate(&id);
            let _ = ConnectionIds::new(7, None).validate(&id);
        }
    }
}
