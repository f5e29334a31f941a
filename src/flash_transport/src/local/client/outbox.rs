//! Bytes to be sent to the server, in order.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::unix::net::UnixStream;

use bytes::{Buf, Bytes};
use tokio::sync::oneshot;

use crate::local::socket::{self, NO_WAIT};

#[derive(Default)]
pub(super) struct Outbox {
    parts: VecDeque<Part>,
    /// An [`Exclusive`](super::Exclusive) is sending; the parts here follow it.
    is_taken: bool,
}

struct Part {
    /// The request whose first part this is.
    begins: Option<u32>,
    bytes: Bytes,
    /// Notified when this part is sent.
    sent: Option<oneshot::Sender<()>>,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub fn push(&mut self, begins: Option<u32>, bytes: Bytes) {
        self.parts.push_back(Part {
            begins,
            bytes,
            sent: None,
        });
    }

    /// As [`Outbox::push`], but ahead of all other parts.
    pub fn push_first(&mut self, bytes: Bytes) {
        self.parts.push_front(Part {
            begins: None,
            bytes,
            sent: None,
        });
    }

    /// Resolves when everything here is sent; fails if it never will be.
    pub fn tell_when_sent(&mut self) -> oneshot::Receiver<()> {
        let (sent, told) = oneshot::channel();
        if let Some(last) = self.parts.back_mut() {
            last.sent = Some(sent);
        }
        told
    }

    /// Reserve the connection until `give_back`; false if it is reserved, or parts are waiting.
    pub fn take(&mut self) -> bool {
        let is_free = !self.is_taken && self.parts.is_empty();
        self.is_taken |= is_free;
        is_free
    }

    pub fn give_back(&mut self) {
        self.is_taken = false;
    }

    /// Send what the kernel accepts; returns whether that is everything. `begin` is called for each
    /// request that is sent at least in part.
    pub fn send(&mut self, stream: &UnixStream, begin: impl Fn(u32)) -> io::Result<bool> {
        while !self.parts.is_empty() && !self.is_taken {
            let slices = self.parts.iter().map(|part| IoSlice::new(&part.bytes));
            let slices: Vec<IoSlice<'_>> = slices.take(socket::PARTS).collect();
            match socket::send(stream, &slices, NO_WAIT) {
                Ok(count) => self.forget(count, &begin),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn forget(&mut self, mut sent: usize, begin: &impl Fn(u32)) {
        while let Some(part) = self.parts.front_mut() {
            if sent == 0 && !part.bytes.is_empty() {
                return;
            }
            if let Some(id) = part.begins.take() {
                begin(id);
            }
            let of_this = sent.min(part.bytes.len());
            part.bytes.advance(of_this);
            sent -= of_this;
            if part.bytes.is_empty() {
                let part = self.parts.pop_front();
                if let Some(told) = part.and_then(|part| part.sent) {
                    let _ = told.send(());
                }
            }
        }
    }
}
