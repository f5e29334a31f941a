//! The frames of one client, and the messages that they make.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{timeout_at, Instant};

use super::peer::{Message, Peer};
use crate::buffers::Buffer;
use crate::link::limits::{Reservation, ServerLimits};
use crate::link::wire::{ErrorCode, Failure};
use crate::websocket::frame::{
    apply_mask, close, FrameError, Head, Opcode, Sequence, LONGEST_CONTROL,
};

/// Bytes that are read where a head may be.
const HEADS: usize = 4 << 10;
/// Most bytes to allocate for a message before its first bytes arrive.
const FIRST_STEP: usize = 64 << 10;
/// The next message's buffer starts with the size of the last one, up to this.
const LARGEST_EXPECTED: usize = 4 << 20;

/// What a client has sent.
#[derive(Debug)]
pub(super) enum Received {
    Message(Message),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Vec<u8>),
}

/// Why no more is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the client has left")]
    Gone,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("a text message is not UTF-8")]
    Text,
    #[error("a message is larger than {0} bytes")]
    TooLarge(usize),
    #[error("a message did not arrive within {} s", .0.as_secs())]
    TooSlow(Duration),
}

impl Broken {
    /// With which code the connection closes; `None` if there is nobody to tell.
    pub fn close_code(&self) -> Option<u16> {
        match self {
            Self::Gone => None,
            Self::Frame(_) => Some(close::PROTOCOL_ERROR),
            Self::Text => Some(close::INVALID_DATA),
            Self::TooLarge(_) => Some(close::TOO_LARGE),
            Self::TooSlow(_) => Some(close::POLICY_VIOLATION),
        }
    }
}

pub(super) struct Reader<'a, R> {
    half: R,
    peer: &'a Peer,
    limits: &'a ServerLimits,
    /// Bytes that have come; those from `at` on belong to no frame yet.
    ahead: Vec<u8>,
    at: usize,
    sequence: Sequence,
    partial: Option<Partial>,
    /// When the message or control frame that has begun must be complete.
    until: Option<Instant>,
    /// Size of the last message; the next one is probably as large.
    expected: usize,
}

/// A message of which not all has come.
struct Partial {
    is_text: bool,
    body: Buffer,
    reservation: Reservation,
    refused: Option<Failure>,
}

impl<'a, R: AsyncRead + Unpin> Reader<'a, R> {
    /// `ahead` has come already.
    pub fn new(half: R, peer: &'a Peer, limits: &'a ServerLimits, ahead: Vec<u8>) -> Self {
        Self {
            half,
            peer,
            limits,
            ahead,
            at: 0,
            sequence: Sequence::default(),
            partial: None,
            until: None,
            expected: 0,
        }
    }

    /// What comes next.
    pub async fn next(&mut self) -> Result<Received, Broken> {
        loop {
            let head = self.head().await?;
            if head.opcode.is_control() {
                let payload = self.control(&head).await?;
                if self.partial.is_none() {
                    self.until = None;
                }
                return Ok(match head.opcode {
                    Opcode::Ping => Received::Ping(payload),
                    Opcode::Pong => Received::Pong(payload),
                    _ => Received::Close(payload),
                });
            }
            if let Some(message) = self.data(&head).await? {
                self.until = None;
                return Ok(Received::Message(message));
            }
        }
    }

    /// Read and drop what comes, until the client ends the connection.
    pub async fn discard(&mut self) {
        let mut scratch = Vec::with_capacity(FIRST_STEP);
        while matches!(self.half.read_buf(&mut scratch).await, Ok(1..)) {
            scratch.clear();
        }
    }

    async fn head(&mut self) -> Result<Head, Broken> {
        loop {
            if let Some((head, size)) = Head::parse(&self.ahead[self.at..])? {
                self.at += size;
                return Ok(head);
            }
            self.read_ahead().await?;
            self.begin_time();
        }
    }

    fn begin_time(&mut self) {
        let time = self.limits.request_time;
        self.until.get_or_insert_with(|| Instant::now() + time);
    }

    async fn read_ahead(&mut self) -> Result<(), Broken> {
        self.ahead.drain(..self.at);
        self.at = 0;
        self.ahead.reserve(HEADS);
        let mut room = (&mut self.ahead).limit(HEADS);
        let read = self.half.read_buf(&mut room);
        let count = in_time(self.until, self.limits.request_time, read).await?;
        self.note(count)
    }

    fn note(&self, count: usize) -> Result<(), Broken> {
        self.peer.heard.store(true, Ordering::Relaxed);
        match count {
            0 => Err(Broken::Gone),
            _ => Ok(()),
        }
    }

    async fn control(&mut self, head: &Head) -> Result<Vec<u8>, Broken> {
        let length = usize::try_from(head.length).unwrap_or(LONGEST_CONTROL);
        while self.ahead.len() - self.at < length {
            self.begin_time();
            self.read_ahead().await?;
        }
        let mut payload = self.ahead[self.at..self.at + length].to_vec();
        self.at += length;
        apply_mask(&mut payload, head.mask, 0);
        Ok(payload)
    }

    /// Read a frame of a message; returns the message if it is the last one.
    async fn data(&mut self, head: &Head) -> Result<Option<Message>, Broken> {
        self.begin_time();
        let begins = self.sequence.enter(head)?;
        let mut partial = match self.partial.take() {
            Some(partial) if !begins => partial,
            _ => Partial {
                is_text: head.opcode == Opcode::Text,
                body: Buffer::default(),
                reservation: Reservation::empty(self.peer.account.clone()),
                refused: None,
            },
        };
        let most = self.limits.message_bytes;
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        if length > most.saturating_sub(partial.body.len()) {
            return Err(Broken::TooLarge(most));
        }
        self.fill(&mut partial, head, length).await?;
        if !head.is_last {
            self.partial = Some(partial);
            return Ok(None);
        }
        if let Some(failure) = partial.refused {
            return Ok(Some(Message::Refused(failure)));
        }
        if partial.is_text && std::str::from_utf8(&partial.body).is_err() {
            return Err(Broken::Text);
        }
        self.expected = partial.body.len().min(LARGEST_EXPECTED);
        Ok(Some(Message::Request {
            body: partial.body,
            is_text: partial.is_text,
            reservation: partial.reservation,
        }))
    }

    /// Append a frame's payload to a message. The buffer grows with the bytes that arrive, not with
    /// the announced length.
    async fn fill(
        &mut self,
        partial: &mut Partial,
        head: &Head,
        length: usize,
    ) -> Result<(), Broken> {
        let mut offset = 0;
        while offset < length && partial.refused.is_none() {
            let left = length - offset;
            let body = &mut partial.body;
            if body.capacity() == 0 {
                *body = Buffer::with_capacity(left.min(self.expected.max(FIRST_STEP)));
            }
            let step = match body.capacity() - body.len() {
                0 => body.len().max(FIRST_STEP),
                room => room,
            };
            let step = step.min(left);
            if let Err(exhausted) = partial.reservation.grow(step) {
                partial.refused = Some(Failure::new(
                    ErrorCode::NotReady,
                    format!(
                        "unanswered requests hold {} bytes already; try again when some are answered",
                        exhausted.limit
                    ),
                ));
                partial.body = Buffer::default();
                partial.reservation = Reservation::empty(self.peer.account.clone());
                break;
            }
            body.reserve(step);
            let end = body.len() + step;
            while body.len() < end {
                let before = body.len();
                self.read_payload(body, end - before).await?;
                apply_mask(&mut body[before..], head.mask, offset as u64);
                offset += body.len() - before;
            }
        }
        self.skip(length - offset).await
    }

    /// Append some of the next `most` bytes.
    async fn read_payload(&mut self, body: &mut Buffer, most: usize) -> Result<(), Broken> {
        let ahead = &self.ahead[self.at..];
        if !ahead.is_empty() {
            let count = most.min(ahead.len());
            body.extend_from_slice(&ahead[..count]);
            self.at += count;
            return Ok(());
        }
        let mut room = (&mut **body).limit(most);
        let read = self.half.read_buf(&mut room);
        let count = in_time(self.until, self.limits.request_time, read).await?;
        self.note(count)
    }

    async fn skip(&mut self, mut left: usize) -> Result<(), Broken> {
        let mut scratch = Buffer::default();
        while left > 0 {
            scratch.clear();
            scratch.reserve(FIRST_STEP);
            self.read_payload(&mut scratch, left.min(FIRST_STEP))
                .await?;
            left -= scratch.len();
        }
        Ok(())
    }
}

async fn in_time(
    until: Option<Instant>,
    time: Duration,
    read: impl std::future::Future<Output = std::io::Result<usize>>,
) -> Result<usize, Broken> {
    let count = match until {
        Some(until) => timeout_at(until, read)
            .await
            .map_err(|_| Broken::TooSlow(time))?,
        None => read.await,
    };
    count.map_err(|_| Broken::Gone)
}
