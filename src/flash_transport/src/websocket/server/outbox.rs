//! What is to be sent to one client, in whole frames.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::lock::lock;
use crate::link::accepted::AcceptedRequest;
use crate::link::limits::Reservation;
use crate::websocket::frame::{close_payload, Opcode, OwnHead};

/// A message of the server.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub opcode: Opcode,
    pub bytes: Vec<u8>,
    /// Bytes ahead of the payload that are not sent.
    pub skipped: usize,
    /// The room that it takes, until it is sent.
    pub _held: Option<Reservation>,
    /// The request that it answers: settled when it is sent.
    pub _answers: Option<AcceptedRequest>,
}

/// Taking a message never waits for the client; whoever sends answers waits for `sent`. A newer pong
/// replaces one that was not sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Outgoing>,
    pong: Option<Vec<u8>>,
    ping: Option<Vec<u8>>,
    close: Option<Vec<u8>>,
    has_ended: bool,
}

/// How writing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// A close frame was sent, and nothing follows.
    Closed,
    /// The client has left.
    Broken,
    /// The client does not read.
    Unread,
}

impl Outbox {
    /// Send a message after the earlier ones, unless the connection closes.
    pub fn send(&self, message: Outgoing) {
        self.change(|state| {
            if state.close.is_none() && !state.has_ended {
                state.messages.push_back(message);
            }
        });
    }

    pub fn pong(&self, payload: Vec<u8>) {
        self.change(|state| state.pong = Some(payload));
    }

    pub fn ping(&self, payload: Vec<u8>) {
        self.change(|state| state.ping = Some(payload));
    }

    /// Close after the messages that are here; a second call changes nothing.
    pub fn close(&self, code: u16, reason: &str) {
        self.close_with(close_payload(code, reason));
    }

    /// As [`Self::close`], with the payload of the frame.
    pub fn close_with(&self, payload: Vec<u8>) {
        self.change(|state| {
            state.close.get_or_insert(payload);
        });
    }

    /// Drop what is not sent: its client no longer reads.
    pub fn clear(&self) {
        let messages = std::mem::take(&mut lock(&self.state).messages);
        drop(messages);
    }

    /// The connection has ended: nothing more is taken.
    pub fn end(&self) {
        lock(&self.state).has_ended = true;
        self.clear();
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_one();
    }

    async fn next(&self) -> Outgoing {
        loop {
            if let Some(next) = lock(&self.state).next() {
                return next;
            }
            self.changed.notified().await;
        }
    }

    /// Send everything, until the connection closes. A message may take `longest`; `sent` is called
    /// when a text or binary one is out.
    pub async fn write(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        longest: Duration,
        sent: impl Fn(),
    ) -> Written {
        loop {
            let message = self.next().await;
            let opcode = message.opcode;
            let payload = &message.bytes[message.skipped..];
            let written = timeout(longest, write_frame(to, opcode, payload)).await;
            drop(message);
            match written {
                Err(_) => return Written::Unread,
                Ok(Err(_)) => return Written::Broken,
                Ok(Ok(())) if opcode == Opcode::Close => {
                    // A client waits for the end of the bytes.
                    let _ = timeout(longest, to.shutdown()).await;
                    return Written::Closed;
                }
                Ok(Ok(())) if opcode.is_control() => {}
                Ok(Ok(())) => sent(),
            }
        }
    }
}

impl State {
    fn next(&mut self) -> Option<Outgoing> {
        let control = |opcode, bytes| Outgoing {
            opcode,
            bytes,
            skipped: 0,
            _held: None,
            _answers: None,
        };
        if let Some(payload) = self.pong.take() {
            return Some(control(Opcode::Pong, payload));
        }
        if let Some(payload) = self.ping.take() {
            return Some(control(Opcode::Ping, payload));
        }
        if let Some(message) = self.messages.pop_front() {
            return Some(message);
        }
        let close = self.close.as_ref().filter(|_| !self.has_ended).cloned()?;
        // Sent once.
        self.has_ended = true;
        Some(control(Opcode::Close, close))
    }
}

async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    opcode: Opcode,
    payload: &[u8],
) -> io::Result<()> {
    let head = OwnHead::new(opcode, payload.len());
    let mut parts = [IoSlice::new(head.bytes()), IoSlice::new(payload)];
    let mut left = &mut parts[..];
    while left.iter().any(|part| !part.is_empty()) {
        match to.write_vectored(left).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => IoSlice::advance_slices(&mut left, count),
        }
    }
    to.flush().await
}
