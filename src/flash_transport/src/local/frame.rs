//! The frame around a message on a stream socket. No sockets here.

/// A client's first bytes: they identify the protocol and its version.
pub const PREFACE: &[u8] = b"openpi-flash/1\n";

/// Length and request id, before each message.
pub const HEADER_BYTES: usize = 8;

/// The only byte of a cancel frame: the client no longer wants the answer to the request of this
/// id.
pub const CANCEL: u8 = 0x00;

/// The id of a final error that answers no request.
pub const NO_REQUEST: u32 = u32::MAX;

/// The header of each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length of the message in bytes.
    pub length: u32,
    /// The client's id of the request; its answer has the same.
    pub id: u32,
}

impl Header {
    /// `None` if the message is too large for a frame.
    pub fn of(id: u32, length: usize) -> Option<Self> {
        let length = u32::try_from(length).ok()?;
        Some(Self { length, id })
    }

    pub fn parse(bytes: [u8; HEADER_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            length: u32::from_le_bytes([a, b, c, d]),
            id: u32::from_le_bytes([e, f, g, h]),
        }
    }

    pub fn bytes(self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.length.to_le_bytes();
        let [e, f, g, h] = self.id.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_its_way() {
        let header = Header {
            length: 0x0102_0304,
            id: 0xa0b0_c0d0,
        };
        assert_eq!(header.bytes(), [4, 3, 2, 1, 0xd0, 0xc0, 0xb0, 0xa0]);
        assert_eq!(Header::parse(header.bytes()), header);
    }

    #[test]
    fn what_does_not_fit_into_a_length_has_no_header() {
        assert_eq!(Header::of(1, 1 << 40), None);
    }
}
