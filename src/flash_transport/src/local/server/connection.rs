//! One client, served by a thread of its own.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::buffers::Buffer;
use crate::link::limits::Reservation;
use crate::link::request::{Part, Reply, Request};
use crate::link::server_core::{HelloOutcome, HELLO_SAID, SHUTTING_DOWN, WARMING_UP};
use crate::link::wire::{ErrorCode, Kind, ANSWER_FIRST, SMALL_MAP};
use crate::local::frame::{Header, CANCEL, HEADER_BYTES, NO_REQUEST, PREFACE};
use crate::local::socket::{self, WAIT_FOR_ALL};

use super::peer::Peer;
use super::shared::Shared;

/// Most bytes to allocate for a message before its first bytes arrive.
const FIRST_STEP: usize = 64 << 10;
/// The next request's buffer starts with the size of the last one, up to this.
const LARGEST_EXPECTED: usize = 4 << 20;

/// The connection has ended, or is to end.
struct Over;

/// Serve a client from its first byte to its last.
pub(super) fn serve(shared: &Arc<Shared>, peer: &Arc<Peer>) {
    let mut connection = Connection {
        shared,
        peer,
        expected: 0,
        is_known: false,
    };
    if connection.read_preface().is_ok() {
        while connection.serve_message().is_ok() {}
    }
    let _ = peer.stream.shutdown(Shutdown::Read);
    if let Some(session) = peer.session.get() {
        shared.core.note_disconnected(&peer.name, session);
    }
    // The client has left, so its requests are cancelled.
    for waiting in peer.in_flight.cancel_all() {
        shared.core.counters.requests_cancelled.add_one();
        drop(
            waiting
                .place
                .and_then(|place| shared.core.queue.withdraw(&place)),
        );
    }
    peer.outbox
        .wait_until_empty(Instant::now() + shared.core.limits.answer_time);
    let _ = peer.stream.shutdown(Shutdown::Both);
}

struct Connection<'a> {
    shared: &'a Arc<Shared>,
    peer: &'a Arc<Peer>,
    /// Size of the last request; the next one is probably as large.
    expected: usize,
    /// Whether the client has sent a good hello, even if the server was not ready for it.
    is_known: bool,
}

impl Connection<'_> {
    fn read_preface(&mut self) -> Result<(), Over> {
        self.set_read_timeout()?;
        let mut preface = Vec::with_capacity(PREFACE.len());
        let until = Instant::now() + self.shared.core.limits.hello_time;
        match self.read(&mut preface, PREFACE.len(), until) {
            Ok(()) if preface == PREFACE => Ok(()),
            Ok(()) => {
                self.shared.core.counters.handshakes_failed.add_one();
                let message = "this is openpi-flash/1, the client speaks something else";
                self.peer.fail(NO_REQUEST, ErrorCode::BadRequest, message);
                Err(Over)
            }
            Err(over) => {
                self.shared.core.counters.handshakes_failed.add_one();
                Err(over)
            }
        }
    }

    fn set_read_timeout(&self) -> Result<(), Over> {
        let limits = &self.shared.core.limits;
        let time = match self.is_known {
            true => limits.request_time,
            false => limits.hello_time,
        };
        self.peer
            .stream
            .set_read_timeout(Some(time))
            .map_err(|_| Over)
    }

    /// Read one message and handle it.
    fn serve_message(&mut self) -> Result<(), Over> {
        let limits = &self.shared.core.limits;
        // A client that does not read its answers is not read from either.
        if !self
            .peer
            .outbox
            .wait_for_room(limits.connection_requests as usize)
        {
            return Err(Over);
        }
        let mut head = Vec::with_capacity(HEADER_BYTES + 1);
        self.read_head(&mut head)?;
        let (Ok(header), first) = (head[..HEADER_BYTES].try_into(), head[HEADER_BYTES]) else {
            return Err(Over);
        };
        let Header { length, id } = Header::parse(header);
        let Some(length) = (length as usize).checked_sub(1) else {
            self.shared.core.counters.requests_refused.add_one();
            self.peer
                .fail(NO_REQUEST, ErrorCode::BadRequest, "a message is empty");
            return Err(Over);
        };
        let until = Instant::now() + limits.request_time;

        match Kind::from_byte(first) {
            Some(Kind::Hello) => self.serve_hello(id, length, until),
            _ if !self.is_known => {
                let message = "this connection has not said hello yet";
                self.shared.core.counters.clients_unauthenticated.add_one();
                self.peer.fail(id, ErrorCode::Unauthenticated, message);
                Err(Over)
            }
            Some(kind) => self.serve_request(kind, id, length, until),
            None if first == CANCEL => self.cancel(id, length, until),
            None => {
                let message = format!("request starts with byte {first:#04x}, which means nothing");
                self.refuse(id, ErrorCode::BadRequest, &message);
                self.skip(length, until)
            }
        }
    }

    /// Wait for the next message: without a limit once the client is authenticated.
    fn read_head(&mut self, head: &mut Vec<u8>) -> Result<(), Over> {
        let all = HEADER_BYTES + 1;
        while head.len() < all {
            match socket::receive(&self.peer.stream, head, all - head.len(), WAIT_FOR_ALL) {
                Ok(0) => return Err(Over),
                Ok(_) => {}
                Err(error) if timed_out(&error) && head.is_empty() && self.is_known => {}
                Err(error) => {
                    if timed_out(&error) && !self.is_known {
                        self.shared.core.note_silent(&self.peer.name);
                    }
                    return Err(Over);
                }
            }
        }
        Ok(())
    }

    /// Append exactly `count` bytes; `bytes` has the capacity.
    fn read(&self, bytes: &mut Vec<u8>, count: usize, until: Instant) -> Result<(), Over> {
        let end = bytes.len() + count;
        while bytes.len() < end {
            let left = end - bytes.len();
            match socket::receive(&self.peer.stream, bytes, left, WAIT_FOR_ALL) {
                Ok(0) | Err(_) => return Err(Over),
                Ok(_) if bytes.len() < end && Instant::now() >= until => return Err(Over),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Read and discard the rest of a message, to get to the next one.
    fn skip(&self, mut left: usize, until: Instant) -> Result<(), Over> {
        let mut scratch = Buffer::with_capacity(FIRST_STEP);
        while left > 0 {
            scratch.clear();
            let step = left.min(FIRST_STEP);
            self.read(&mut scratch, step, until)?;
            left -= step;
        }
        Ok(())
    }

    fn refuse(&self, id: u32, code: ErrorCode, message: &str) {
        self.shared.core.counters.requests_refused.add_one();
        self.peer.fail(id, code, message);
    }

    fn serve_hello(&mut self, id: u32, length: usize, until: Instant) -> Result<(), Over> {
        if length > SMALL_MAP.bytes {
            let message = format!("request is larger than {} bytes", SMALL_MAP.bytes);
            self.refuse(id, ErrorCode::BadRequest, &message);
            return match self.is_known {
                true => self.skip(length, until),
                false => Err(Over),
            };
        }
        let mut body = Vec::with_capacity(length);
        self.read(&mut body, length, until)?;
        let core = &self.shared.core;
        if self.peer.session.get().is_some() {
            self.refuse(id, ErrorCode::BadRequest, HELLO_SAID);
            return Ok(());
        }
        match core.hello_delay(&self.peer.name, Instant::now()) {
            Ok((delay, _guard)) => thread::sleep(delay),
            Err(failure) => {
                self.peer.answer(id, &failure.encode());
                return Err(Over);
            }
        }
        match core.judge_hello(&body, &self.peer.name, Instant::now()) {
            HelloOutcome::Malformed(failure) => {
                self.peer.answer(id, &failure.encode());
                return Ok(());
            }
            HelloOutcome::Refused(failure) => {
                self.peer.answer(id, &failure.encode());
                return Err(Over);
            }
            HelloOutcome::NotReady(failure) => self.peer.answer(id, &failure.encode()),
            HelloOutcome::Welcome {
                session, answer, ..
            } => {
                // Only this thread sets it.
                let _ = self.peer.session.set(session);
                self.peer.answer(id, &answer);
                core.counters.answers_sent.add_one();
            }
        }
        self.is_known = true;
        self.set_read_timeout()
    }

    fn serve_request(
        &mut self,
        kind: Kind,
        id: u32,
        length: usize,
        until: Instant,
    ) -> Result<(), Over> {
        let limits = &self.shared.core.limits;
        let refusal = if self.peer.session.get().is_none() {
            Some((ErrorCode::NotReady, WARMING_UP.to_owned()))
        } else if length > limits.message_bytes {
            let message = format!("request is larger than {} bytes", limits.message_bytes);
            Some((ErrorCode::BadRequest, message))
        } else if self.peer.in_flight.len() >= limits.connection_requests as usize {
            let message = format!(
                "{} requests of this connection wait for their answers already; try again when some have come",
                limits.connection_requests
            );
            Some((ErrorCode::NotReady, message))
        } else {
            None
        };
        if let Some((code, message)) = refusal {
            self.refuse(id, code, &message);
            return self.skip(length, until);
        }

        let mut reservation = Reservation::empty(self.peer.account.clone());
        let expected = self.expected.min(limits.message_bytes);
        let mut body = Buffer::with_capacity(length.min(expected.max(FIRST_STEP)));
        while body.len() < length {
            // Grows with the bytes that arrive, not with the announced length.
            let step = match body.capacity() - body.len() {
                0 => body.len(),
                room => room,
            };
            let step = step.min(length - body.len());
            if let Err(exhausted) = reservation.grow(step) {
                let message = format!(
                    "unanswered requests hold {} bytes already; try again when some are answered",
                    exhausted.limit
                );
                self.refuse(id, ErrorCode::NotReady, &message);
                return self.skip(length - body.len(), until);
            }
            body.reserve(step);
            self.read(&mut body, step, until)?;
        }
        self.expected = length.min(LARGEST_EXPECTED);
        self.ask_policy(kind, id, body, reservation)
    }

    fn ask_policy(
        &self,
        kind: Kind,
        id: u32,
        body: Buffer,
        reservation: Reservation,
    ) -> Result<(), Over> {
        let Some(accepted) = self.shared.core.accepted.accept(&self.peer.accepted) else {
            self.refuse(id, ErrorCode::NotReady, SHUTTING_DOWN);
            return Ok(());
        };
        let Some(cancelled) = self.peer.in_flight.enter(id, accepted) else {
            // The id is in use, so an error would be taken for the answer to the other request.
            self.shared.core.counters.requests_refused.add_one();
            return Err(Over);
        };
        let (peer, shared) = (self.peer.clone(), self.shared.clone());
        let send = Box::new(move |part| match part {
            Part::First(map) => {
                if peer.in_flight.is_waiting(id) {
                    peer.answer(id, &[&[ANSWER_FIRST], map.as_slice()].concat());
                }
            }
            // Is for openpi's own client, which speaks WebSocket.
            Part::Traceback(_) => {}
            Part::Whole(answer) => {
                if let Some(_waiting) = peer.in_flight.settle(id) {
                    peer.answer(id, &answer);
                    shared.core.counters.answers_sent.add_one();
                }
            }
        });
        let session = self.peer.session.get().unwrap_or(&self.peer.name.name);
        let request = Request {
            kind,
            session: session.clone(),
            peer: self.peer.name.name.clone(),
            body,
            is_text: false,
            reply: Reply::through(send, cancelled),
            _reservation: reservation,
        };
        self.shared.core.counters.requests_accepted.add_one();
        let client = request.peer.clone();
        match self.shared.core.queue.enter(&client, request) {
            Ok(place) => self.peer.in_flight.has_place(id, place),
            Err(request) => {
                let _ = request.reply.fail(ErrorCode::NotReady, SHUTTING_DOWN);
            }
        }
        Ok(())
    }

    fn cancel(&self, id: u32, length: usize, until: Instant) -> Result<(), Over> {
        if let Some(waiting) = self.peer.in_flight.cancel(id) {
            self.shared.core.counters.requests_cancelled.add_one();
            // If the policy has it already, the policy sees `cancelled`.
            drop(
                waiting
                    .place
                    .and_then(|place| self.shared.core.queue.withdraw(&place)),
            );
        }
        self.skip(length, until)
    }
}

fn timed_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
