//! Counts the messages in what the session API sends. No sockets here.

/// What ends the answer to the upgrade.
const PAGE_END: &[u8] = b"\r\n\r\n";

/// Follows the answer to an upgrade and the frames behind it.
#[derive(Debug, Default)]
pub(super) struct SessionAnswers {
    place: Place,
    /// What has come of a frame's head.
    head: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Page { matched: usize },
    Head,
    Payload { left: u64, ends_message: bool },
}

impl Default for Place {
    fn default() -> Self {
        Self::Page { matched: 0 }
    }
}

impl SessionAnswers {
    /// How many messages end in the bytes that come next.
    pub fn count(&mut self, mut bytes: &[u8]) -> usize {
        let mut ended = 0;
        while let [byte, rest @ ..] = bytes {
            self.place = match self.place {
                Place::Page { matched } => {
                    bytes = rest;
                    match matched_after(matched, *byte) {
                        matched if matched == PAGE_END.len() => Place::Head,
                        matched => Place::Page { matched },
                    }
                }
                Place::Head => {
                    bytes = rest;
                    self.head.push(*byte);
                    match parse(&self.head) {
                        None => Place::Head,
                        Some((left, ends_message)) => {
                            self.head.clear();
                            Place::Payload { left, ends_message }
                        }
                    }
                }
                Place::Payload { left, ends_message } => {
                    let step = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[step..];
                    let left = left - step as u64;
                    Place::Payload { left, ends_message }
                }
            };
            if let Place::Payload {
                left: 0,
                ends_message,
            } = self.place
            {
                ended += usize::from(ends_message);
                self.place = Place::Head;
            }
        }
        ended
    }
}

fn matched_after(matched: usize, byte: u8) -> usize {
    match PAGE_END.get(matched) {
        Some(wanted) if *wanted == byte => matched + 1,
        _ => usize::from(byte == b'\r'),
    }
}

/// Length of the payload, and whether it ends a message; `None` if more bytes are needed.
fn parse(head: &[u8]) -> Option<(u64, bool)> {
    let [first, second, rest @ ..] = head else {
        return None;
    };
    let length = match (second & 0x7f, rest) {
        (126, [a, b]) => u16::from_be_bytes([*a, *b]).into(),
        (127, [a, b, c, d, e, f, g, h]) => u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
        (126 | 127, _) => return None,
        (short, _) => u64::from(short),
    };
    let is_control = first & 0x08 != 0;
    Some((length, first & 0x80 != 0 && !is_control))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::frame::{Opcode, OwnHead};

    fn frame(opcode: Opcode, length: usize) -> Vec<u8> {
        [OwnHead::new(opcode, length).bytes(), &vec![0x81; length]].concat()
    }

    #[test]
    fn messages_are_counted_and_pages_and_control_frames_are_not() {
        let bytes = [
            b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n".to_vec(),
            frame(Opcode::Binary, 0),
            frame(Opcode::Ping, 4),
            frame(Opcode::Text, 125),
            frame(Opcode::Binary, 126),
            frame(Opcode::Binary, 70_000),
            frame(Opcode::Close, 2),
        ]
        .concat();
        assert_eq!(SessionAnswers::default().count(&bytes), 4);
        for size in [1, 2, 3, 7, 1000] {
            let mut answers = SessionAnswers::default();
            let counted: usize = bytes.chunks(size).map(|part| answers.count(part)).sum();
            assert_eq!(counted, 4, "in parts of {size}");
        }
    }

    #[test]
    fn a_message_in_parts_counts_once() {
        let mut answers = SessionAnswers::default();
        answers.count(PAGE_END);
        assert_eq!(answers.count(&[0x02, 1, 0]), 0);
        assert_eq!(answers.count(&[0x00, 1, 0]), 0);
        assert_eq!(answers.count(&[0x80, 1, 0]), 1);
    }
}
