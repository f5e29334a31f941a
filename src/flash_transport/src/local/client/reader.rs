//! Reassembles the server's frames from the bytes as they arrive.

use std::io;
use std::os::unix::net::UnixStream;

use super::error::ExchangeError;
use crate::buffers::Buffer;
use crate::local::frame::{Header, HEADER_BYTES};
use crate::local::socket::{self, NO_WAIT};

/// Most bytes to allocate for a message before its first bytes arrive.
const FIRST_STEP: usize = 64 << 10;

#[derive(Default)]
pub(super) struct Reader {
    head: Vec<u8>,
    message: Option<Message>,
}

struct Message {
    id: u32,
    /// Bytes still missing.
    left: usize,
    /// None if the message is too large: it is read and discarded.
    body: Option<Buffer>,
}

impl Reader {
    /// The next whole message; `None` if the rest has not arrived yet.
    pub fn next(
        &mut self,
        stream: &UnixStream,
        limit: usize,
    ) -> io::Result<Option<(u32, Result<Buffer, ExchangeError>)>> {
        match self.read(stream, limit) {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(
        &mut self,
        stream: &UnixStream,
        limit: usize,
    ) -> io::Result<(u32, Result<Buffer, ExchangeError>)> {
        loop {
            let Some(message) = &mut self.message else {
                self.message = Some(read_head(&mut self.head, stream, limit)?);
                continue;
            };
            while message.left > 0 {
                message.left -= match &mut message.body {
                    Some(body) => {
                        if body.len() == body.capacity() {
                            // Grows with the bytes that arrive, not with the announced length.
                            let more = body.len().max(FIRST_STEP).min(message.left);
                            body.reserve(more);
                        }
                        whole(socket::receive(stream, body, message.left, NO_WAIT)?)?
                    }
                    None => {
                        let mut scratch = Buffer::with_capacity(FIRST_STEP);
                        let most = FIRST_STEP.min(message.left);
                        whole(socket::receive(stream, &mut scratch, most, NO_WAIT)?)?
                    }
                };
            }
            if let Some(Message { id, body, .. }) = self.message.take() {
                return Ok((id, body.ok_or(ExchangeError::TooLarge)));
            }
        }
    }
}

fn read_head(head: &mut Vec<u8>, stream: &UnixStream, limit: usize) -> io::Result<Message> {
    head.reserve(HEADER_BYTES);
    while head.len() < HEADER_BYTES {
        let missing = HEADER_BYTES - head.len();
        whole(socket::receive(stream, head, missing, NO_WAIT)?)?;
    }
    let mut bytes = [0; HEADER_BYTES];
    bytes.copy_from_slice(head);
    head.clear();
    let Header { length, id } = Header::parse(bytes);
    let left = length as usize;
    Ok(Message {
        id,
        left,
        body: (left <= limit).then(|| Buffer::with_capacity(left.min(FIRST_STEP))),
    })
}

fn whole(count: usize) -> io::Result<usize> {
    match count {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => Ok(count),
    }
}
