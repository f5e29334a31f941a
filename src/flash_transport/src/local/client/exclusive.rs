//! A request that the thread which waits for its answer carries itself.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::connection::{after_first, cancel_frame, Connection};
use super::error::{describe, ExchangeError};
use super::reader::Reader;
use crate::buffers::Buffer;
use crate::link::first_receiver::FirstReceiver;
use crate::local::frame::{Header, HEADER_BYTES};
use crate::local::socket::{self, NO_WAIT};

/// A request that holds the connection until its answer. Others' requests are sent after it, and it
/// delivers their answers. Dropping it cancels the request at the server.
pub(crate) struct Exclusive {
    connection: Arc<Connection>,
    reader: OwnedMutexGuard<Reader>,
    id: u32,
    head: [u8; HEADER_BYTES],
    pieces: Vec<Bytes>,
    /// Length of `head` and `pieces` together.
    bytes: usize,
    sent: usize,
    is_over: bool,
    first: Option<FirstReceiver>,
}

impl Connection {
    /// Carry a request on this thread, with `first` for its first actions; `None` if another thread
    /// carries one now.
    pub fn exclusive(
        self: &Arc<Self>,
        pieces: &[Bytes],
        first: Option<&FirstReceiver>,
    ) -> Option<Exclusive> {
        let length = pieces.iter().map(Bytes::len).sum();
        let reader = self.reader.clone().try_lock_owned().ok()?;
        if !self.is_up() || !self.outbox().take() {
            return None;
        }
        let id = self.new_id();
        let Some(header) = Header::of(id, length) else {
            self.outbox().give_back();
            return None;
        };
        Some(Exclusive {
            connection: self.clone(),
            reader,
            id,
            head: header.bytes(),
            pieces: pieces.to_vec(),
            bytes: HEADER_BYTES + length,
            sent: 0,
            is_over: false,
            first: first.cloned(),
        })
    }
}

impl Exclusive {
    /// Continue until the answer is there, or until `until`; then `None`. Not to be called after an
    /// answer.
    pub fn carry(&mut self, until: Instant) -> Option<Result<Buffer, ExchangeError>> {
        let answer = match self.try_carry(until) {
            Ok(None) => return None,
            Ok(Some(answer)) => answer,
            Err(error) => {
                let why = describe(&error);
                self.connection.end(&why);
                Err(match self.sent {
                    0 => ExchangeError::NotSent(why),
                    _ => ExchangeError::Lost(why),
                })
            }
        };
        self.is_over = true;
        Some(answer)
    }

    fn try_carry(&mut self, until: Instant) -> io::Result<Option<Result<Buffer, ExchangeError>>> {
        loop {
            let is_sent = self.send()?;
            let (stream, limit) = (&self.connection.stream, self.connection.answer_bytes);
            while let Some((id, answer)) = self.reader.next(stream, limit)? {
                if id != self.id {
                    self.connection.dispatch(id, answer)?;
                } else if let Some(answer) = after_first(answer, self.first.as_ref()) {
                    return Ok(Some(answer));
                }
            }
            if !socket::wait(stream, !is_sent, until)? {
                return Ok(None);
            }
        }
    }

    /// Send what the kernel accepts; returns whether that is everything.
    fn send(&mut self) -> io::Result<bool> {
        while self.sent < self.bytes {
            let mut skip = self.sent;
            let parts =
                std::iter::once(&self.head[..]).chain(self.pieces.iter().map(|piece| &piece[..]));
            let parts = parts.filter_map(|part| {
                let skipped = skip.min(part.len());
                skip -= skipped;
                (skipped < part.len()).then(|| IoSlice::new(&part[skipped..]))
            });
            let parts: Vec<IoSlice<'_>> = parts.take(socket::PARTS).collect();
            match socket::send(&self.connection.stream, &parts, NO_WAIT) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // The server has closed the connection, and may have sent the reason.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.sent > 0 => {
                    return Ok(true)
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// The part of the request's frame that is not sent yet.
    fn rest(&self) -> Bytes {
        let whole: Vec<u8> = [&self.head[..]]
            .into_iter()
            .chain(self.pieces.iter().map(|piece| &piece[..]))
            .collect::<Vec<_>>()
            .concat();
        Bytes::from(whole).slice(self.sent..)
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        let mut outbox = self.connection.outbox();
        outbox.give_back();
        if !self.is_over && self.sent > 0 {
            // A frame must be sent to its end once it has begun.
            let rest = self.rest();
            outbox.push_first(cancel_frame(self.id));
            if !rest.is_empty() {
                outbox.push_first(rest);
            }
        }
        drop(outbox);
        if self.connection.has_work() {
            self.connection.work.notify_one();
        }
    }
}

impl std::fmt::Debug for Exclusive {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut exclusive = formatter.debug_struct("Exclusive");
        exclusive
            .field("id", &self.id)
            .field("sent", &self.sent)
            .finish()
    }
}
