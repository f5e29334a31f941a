//! A request that is carried by the thread that waits for its answer.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::connection::{cancel_frame, Connection};
use super::error::{describe, ExchangeError};
use super::reader::Reader;
use crate::buffers::Buffer;
use crate::local::frame::{Header, HEADER_BYTES};
use crate::local::socket::{self, NO_WAIT};

/// A request, and the connection for as long as it takes. Others may ask meanwhile: what they send comes after this, and
/// what comes for them is given to them. Dropping it tells the server that nobody wants the answer.
pub(crate) struct Exclusive {
    connection: Arc<Connection>,
    reader: OwnedMutexGuard<Reader>,
    id: u32,
    head: [u8; HEADER_BYTES],
    pieces: Vec<Bytes>,
    /// Of `head` and `pieces`, in all.
    bytes: usize,
    sent: usize,
    is_over: bool,
}

impl Connection {
    /// Carry a request here, unless somebody else is at it.
    pub fn exclusive(self: &Arc<Self>, pieces: &[Bytes]) -> Option<Exclusive> {
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
        })
    }
}

impl Exclusive {
    /// Go on until there is an answer or `until` has come; then `None`. Not to be called again after an answer.
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
                if id == self.id {
                    return Ok(Some(answer));
                }
                self.connection.dispatch(id, answer)?;
            }
            if !socket::wait(stream, !is_sent, until)? {
                return Ok(None);
            }
        }
    }

    /// Send what the kernel takes; says whether that is all.
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
                // The server has hung up, and may have said why.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.sent > 0 => {
                    return Ok(true)
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// What of the request's frame is not sent.
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
            // A frame that has begun must come to its end.
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
