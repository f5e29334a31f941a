//! The frames of WebSocket (RFC 6455, section 5) at the server's end. No sockets here.

/// Most bytes of a frame's head.
pub const LONGEST_HEAD: usize = 14;
/// Most bytes of a control frame's payload.
pub const LONGEST_CONTROL: usize = 125;
/// Most bytes of the reason in a close frame.
const LONGEST_REASON: usize = LONGEST_CONTROL - 2;

/// Close codes (RFC 6455, section 7.4.1).
pub mod close {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    pub const INVALID_DATA: u16 = 1007;
    pub const POLICY_VIOLATION: u16 = 1008;
    pub const TOO_LARGE: u16 = 1009;
    pub const INTERNAL_ERROR: u16 = 1011;
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    fn from_bits(bits: u8) -> Option<Self> {
        use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};
        [Continuation, Text, Binary, Close, Ping, Pong]
            .into_iter()
            .find(|opcode| *opcode as u8 == bits)
    }
}

/// The head of a client's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Whether it is the last frame of its message.
    pub is_last: bool,
    pub opcode: Opcode,
    /// Bytes of the payload.
    pub length: u64,
    pub mask: [u8; 4],
}

/// Why a client's bytes are no frame; the connection closes with [`close::PROTOCOL_ERROR`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("reserved bits are set")]
    ReservedBits,
    #[error("opcode {0:#x} means nothing")]
    Opcode(u8),
    #[error("a client's frame is not masked")]
    Unmasked,
    #[error("a control frame is cut into parts")]
    CutControl,
    #[error("a control frame is longer than {LONGEST_CONTROL} bytes")]
    LongControl,
    #[error("a length of more than 63 bits")]
    Length,
    #[error("a message begins within another")]
    Interrupted,
    #[error("a continuation without a message")]
    NoMessage,
}

impl Head {
    /// The head at the start of `bytes` and its size; `None` if more bytes are needed.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(FrameError::ReservedBits);
        }
        let bits = first & 0x0f;
        let opcode = Opcode::from_bits(bits).ok_or(FrameError::Opcode(bits))?;
        let is_last = first & 0x80 != 0;
        if second & 0x80 == 0 {
            return Err(FrameError::Unmasked);
        }
        let short = second & 0x7f;
        if opcode.is_control() && !is_last {
            return Err(FrameError::CutControl);
        }
        if opcode.is_control() && usize::from(short) > LONGEST_CONTROL {
            return Err(FrameError::LongControl);
        }
        let (length, rest) = match (short, rest) {
            (126, [a, b, rest @ ..]) => (u16::from_be_bytes([*a, *b]).into(), rest),
            (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                (length, rest)
            }
            (126 | 127, _) => return Ok(None),
            (short, rest) => (u64::from(short), rest),
        };
        if length > u64::MAX >> 1 {
            return Err(FrameError::Length);
        }
        let [a, b, c, d, rest @ ..] = rest else {
            return Ok(None);
        };
        let head = Self {
            is_last,
            opcode,
            length,
            mask: [*a, *b, *c, *d],
        };
        Ok(Some((head, bytes.len() - rest.len())))
    }
}

/// Which frame of a message may come next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    is_open: bool,
}

impl Sequence {
    /// Note a data frame; returns whether it begins a message.
    pub fn enter(&mut self, head: &Head) -> Result<bool, FrameError> {
        let begins = head.opcode != Opcode::Continuation;
        match (begins, self.is_open) {
            (true, true) => return Err(FrameError::Interrupted),
            (false, false) => return Err(FrameError::NoMessage),
            _ => {}
        }
        self.is_open = !head.is_last;
        Ok(begins)
    }
}

/// Mask or unmask a part of a payload that begins at `offset` of it.
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let [a, b, c, d] = mask;
    let mut mask = match offset % 4 {
        0 => [a, b, c, d],
        1 => [b, c, d, a],
        2 => [c, d, a, b],
        _ => [d, a, b, c],
    };
    if mask == [0; 4] {
        return;
    }
    let mut words = bytes.chunks_exact_mut(8);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    for word in &mut words {
        let mut value = [0; 8];
        value.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(value) ^ wide).to_ne_bytes());
    }
    for byte in words.into_remainder() {
        *byte ^= mask[0];
        mask.rotate_left(1);
    }
}

/// The head of a server's frame, which is a whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnHead {
    bytes: [u8; 10],
    size: usize,
}

impl OwnHead {
    pub fn new(opcode: Opcode, length: usize) -> Self {
        let mut bytes = [0; 10];
        bytes[0] = 0x80 | opcode as u8;
        let size = match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => {
                bytes[1] = short;
                2
            }
            (_, Ok(length)) => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..].copy_from_slice(&(length as u64).to_be_bytes());
                10
            }
        };
        Self { bytes, size }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.size]
    }
}

/// The head of a client's frame, which is a whole message, with a mask that changes nothing.
pub fn masked_head(opcode: Opcode, length: usize) -> Vec<u8> {
    let mut bytes = OwnHead::new(opcode, length).bytes().to_vec();
    if let Some(second) = bytes.get_mut(1) {
        *second |= 0x80;
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

/// The payload of a close frame with a code and a reason, which is cut where it is too long.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(LONGEST_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    [&code.to_be_bytes(), &reason.as_bytes()[..end]].concat()
}

/// The code with which a client's close frame is answered; `None` if the frame names none.
pub fn close_answer(payload: &[u8]) -> Option<u16> {
    match payload {
        [] => None,
        [_] => Some(close::PROTOCOL_ERROR),
        [a, b, reason @ ..] => Some(match u16::from_be_bytes([*a, *b]) {
            _ if std::str::from_utf8(reason).is_err() => close::INVALID_DATA,
            code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => code,
            _ => close::PROTOCOL_ERROR,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, FrameError> {
        Head::parse(bytes)
    }

    #[test]
    fn the_masked_hello_of_the_rfc_is_read() {
        // RFC 6455, section 5.7
        let mut frame = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        let (read, size) = head(&frame).unwrap().unwrap();
        assert_eq!((read.opcode, read.length, size), (Opcode::Text, 5, 6));
        assert!(read.is_last);
        apply_mask(&mut frame[6..], read.mask, 0);
        assert_eq!(&frame[6..], b"Hello");
    }

    #[test]
    fn every_form_of_a_length_is_read_and_a_part_of_a_head_waits_for_the_rest() {
        for (length, form) in [
            (125u64, vec![0x80 | 125]),
            (300, vec![0x80 | 126, 1, 44]),
            (70_000, vec![0x80 | 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]),
        ] {
            let whole = [&[0x82], form.as_slice(), &[1, 2, 3, 4]].concat();
            for part in 0..whole.len() {
                assert_eq!(head(&whole[..part]), Ok(None));
            }
            let (read, size) = head(&whole).unwrap().unwrap();
            assert_eq!(
                (read.length, read.mask, size),
                (length, [1, 2, 3, 4], whole.len())
            );
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_refused_by_its_first_two_bytes() {
        for (bytes, error) in [
            ([0xc2, 0x80], FrameError::ReservedBits),
            ([0x83, 0x80], FrameError::Opcode(3)),
            ([0x82, 0x05], FrameError::Unmasked),
            ([0x09, 0x80], FrameError::CutControl),
            ([0x89, 0x80 | 126], FrameError::LongControl),
        ] {
            assert_eq!(head(&bytes), Err(error));
        }
        let endless = [&[0x82, 0x80 | 127], [0xff; 8].as_slice()].concat();
        assert_eq!(head(&endless), Err(FrameError::Length));
    }

    #[test]
    fn parts_of_a_message_follow_each_other() {
        let of = |opcode, is_last| Head {
            is_last,
            opcode,
            length: 0,
            mask: [0; 4],
        };
        let mut sequence = Sequence::default();
        let continuation = of(Opcode::Continuation, true);
        assert_eq!(sequence.enter(&continuation), Err(FrameError::NoMessage));
        assert_eq!(sequence.enter(&of(Opcode::Binary, false)), Ok(true));
        let other = of(Opcode::Text, true);
        assert_eq!(sequence.enter(&other), Err(FrameError::Interrupted));
        assert_eq!(sequence.enter(&continuation), Ok(false));
        assert_eq!(sequence.enter(&other), Ok(true));
    }

    #[test]
    fn the_heads_of_a_server_have_the_shortest_form() {
        let bytes = |length| OwnHead::new(Opcode::Binary, length).bytes().to_vec();
        assert_eq!(bytes(125), [0x82, 125]);
        assert_eq!(bytes(126), [0x82, 126, 0, 126]);
        assert_eq!(bytes(65_536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn the_heads_of_a_client_are_read_as_they_were_written() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let bytes = masked_head(Opcode::Binary, length);
            let (head, size) = head(&bytes).expect("well formed").expect("whole");
            assert_eq!((head.length, size), (length as u64, bytes.len()));
            assert_eq!((head.is_last, head.mask), (true, [0; 4]));
        }
    }

    #[test]
    fn a_close_frame_is_answered_with_its_code_if_that_is_one() {
        assert_eq!(close_answer(&[]), None);
        for (code, answer) in [
            (1000, 1000),
            (1001, 1001),
            (4000, 4000),
            (1005, 1002),
            (7, 1002),
        ] {
            assert_eq!(close_answer(&close_payload(code, "bye")), Some(answer));
        }
        assert_eq!(close_answer(&[3]), Some(close::PROTOCOL_ERROR));
        assert_eq!(close_answer(&[3, 0xe8, 0xff]), Some(close::INVALID_DATA));
        let long = close_payload(1011, &"é".repeat(100));
        assert!(long.len() <= LONGEST_CONTROL && std::str::from_utf8(&long[2..]).is_ok());
    }

    proptest! {
        #[test]
        fn a_mask_over_parts_is_the_mask_over_all(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            mask in any::<[u8; 4]>(),
            cut in 0..200usize,
        ) {
            let expected: Vec<u8> =
                bytes.iter().enumerate().map(|(place, byte)| byte ^ mask[place % 4]).collect();
            let cut = cut.min(bytes.len());
            let mut masked = bytes.clone();
            let (left, right) = masked.split_at_mut(cut);
            apply_mask(left, mask, 0);
            apply_mask(right, mask, cut as u64);
            prop_assert_eq!(masked, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(Some((_, size))) = Head::parse(&bytes) {
                prop_assert!(size <= LONGEST_HEAD);
            }
            let _ = close_answer(&bytes);
        }
    }
}
