//! What goes around a message on a stream socket. No sockets here.

/// What a client sends first, so that a stranger is told from a client of another version.
pub const PREFACE: &[u8] = b"openpi-flash/1\n";

/// Length and number, before each message.
pub const HEADER_BYTES: usize = 8;

/// First byte of a message that is no request: the client no longer wants the answer to the request of this number.
pub const CANCEL: u8 = 0x00;

/// The number of a server's last words to a client whose requests it does not understand.
pub const NO_REQUEST: u32 = u32::MAX;

/// What comes before each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the message.
    pub length: u32,
    /// The client's number for the request, which its answer bears, too.
    pub id: u32,
}

impl Header {
    /// `None`: too large for a frame.
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
