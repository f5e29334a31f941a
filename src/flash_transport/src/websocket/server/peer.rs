//! One client, as its connection and the answering threads share it: one request at a time is with
//! the policy, and answers come in the order of the requests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::lock::lock;
use super::outbox::{Outbox, Outgoing};
use super::pings::Pings;
use super::shared::Shared;
use crate::buffers::Buffer;
use crate::link::accepted::AcceptedRequest;
use crate::link::limits::{Account, Reservation};
use crate::link::request::{Part, Reply, Request};
use crate::link::server_core::{PeerName, SHUTTING_DOWN};
use crate::link::table::RequestId;
use crate::link::wire::{ErrorCode, Failure, Kind, ANSWER_OK};
use crate::websocket::frame::{close, Opcode};

/// Messages that are read ahead of the one that is with the policy. A client that waits for its
/// answers has none; further ones stay in the network.
const READ_AHEAD: usize = 2;

/// `{"error": ...}`, up to the map of the failure.
const ERROR_ENTRY: &[u8] = b"\x81\xa5error";

/// A message of the client.
#[derive(Debug)]
pub(super) enum Message {
    Request {
        body: Buffer,
        is_text: bool,
        reservation: Reservation,
    },
    /// One that was not kept, and the answer to it.
    Refused(Failure),
}

pub(super) struct Peer {
    pub name: PeerName,
    /// Whether it speaks our subprotocol, in which an error leaves the connection open.
    pub is_ours: bool,
    pub account: Arc<Account>,
    pub outbox: Outbox,
    /// Whether bytes have come since this was last unset.
    pub heard: AtomicBool,
    /// Accepted requests that are not answered.
    accepted: Arc<AtomicUsize>,
    turns: Mutex<Turns>,
    /// There is room to read ahead.
    room: Notify,
    pub pings: Arc<Pings>,
}

#[derive(Debug, Default)]
struct Turns {
    /// Whether requests may go to the policy: the client has its metadata.
    has_begun: bool,
    has_left: bool,
    running: Option<Running>,
    /// Whether an answer is not sent yet: a client that does not read gets no further ones.
    is_answering: bool,
    waiting: VecDeque<Message>,
    started: u64,
}

#[derive(Debug)]
struct Running {
    number: u64,
    cancelled: Arc<AtomicBool>,
    /// Its place in the queue, until it is taken.
    place: Option<RequestId>,
    accepted: AcceptedRequest,
}

impl Peer {
    pub fn new(shared: &Shared, name: PeerName, is_ours: bool) -> Arc<Self> {
        let pings = Arc::new(Pings::new(name.name.clone()));
        Arc::new(Self {
            name,
            is_ours,
            account: Account::new(&shared.core.limits, shared.core.budget.clone()),
            outbox: Outbox::default(),
            heard: AtomicBool::new(true),
            accepted: Arc::default(),
            turns: Mutex::default(),
            room: Notify::new(),
            pings,
        })
    }

    /// Send the metadata, and let the client's requests through.
    pub fn begin(&self, metadata: &[u8]) {
        let mut turns = lock(&self.turns);
        turns.has_begun = true;
        self.send(&mut turns, Opcode::Binary, metadata.to_vec(), 0, None);
    }

    /// A message of the server is sent: the next request may begin.
    pub fn has_sent(self: &Arc<Self>, shared: &Arc<Shared>) {
        lock(&self.turns).is_answering = false;
        self.advance(shared);
    }

    /// Wait until another message may be read.
    pub async fn wait_for_room(&self) {
        while lock(&self.turns).waiting.len() >= READ_AHEAD {
            self.room.notified().await;
        }
    }

    /// Take a message that has come.
    pub fn take(self: &Arc<Self>, shared: &Arc<Shared>, message: Message) {
        let mut turns = lock(&self.turns);
        if turns.has_left {
            return;
        }
        turns.waiting.push_back(message);
        drop(turns);
        self.advance(shared);
    }

    /// The client has left, or is to leave: its requests are cancelled.
    pub fn leave(&self, shared: &Shared) {
        let mut turns = lock(&self.turns);
        turns.has_left = true;
        let dropped = std::mem::take(&mut turns.waiting);
        let running = turns.running.take();
        drop(turns);
        drop(dropped);
        let Some(running) = running else {
            return;
        };
        running.cancelled.store(true, Ordering::Relaxed);
        shared.core.counters.requests_cancelled.add_one();
        // If the policy has it already, the policy sees `cancelled`.
        drop(
            running
                .place
                .and_then(|place| shared.core.queue.withdraw(&place)),
        );
    }

    /// Begin the next request, if none is with the policy.
    fn advance(self: &Arc<Self>, shared: &Arc<Shared>) {
        let mut turns = lock(&self.turns);
        let is_busy = turns.running.is_some() || turns.is_answering;
        if !turns.has_begun || turns.has_left || is_busy {
            return;
        }
        let Some(message) = turns.waiting.pop_front() else {
            return;
        };
        self.room.notify_one();
        let (body, is_text, reservation) = match message {
            Message::Request {
                body,
                is_text,
                reservation,
            } => (body, is_text, reservation),
            Message::Refused(failure) => {
                self.refuse(shared, &mut turns, &failure);
                return;
            }
        };
        let Some(accepted) = shared.core.accepted.accept(&self.accepted) else {
            let failure = Failure::new(ErrorCode::NotReady, SHUTTING_DOWN);
            self.refuse(shared, &mut turns, &failure);
            return;
        };
        turns.started += 1;
        let number = turns.started;
        let cancelled = Arc::new(AtomicBool::new(false));
        turns.running = Some(Running {
            number,
            cancelled: cancelled.clone(),
            place: None,
            accepted,
        });
        drop(turns);
        let request = Request {
            kind: Kind::Infer,
            session: self.name.name.clone(),
            peer: self.name.name.clone(),
            body,
            is_text,
            reply: self.reply(shared, number, cancelled),
            _reservation: reservation,
        };
        shared.core.counters.requests_accepted.add_one();
        match shared.core.queue.enter(&self.name.name, request) {
            Ok(place) => self.has_place(number, place),
            Err(request) => {
                let _ = request.reply.fail(ErrorCode::NotReady, SHUTTING_DOWN);
            }
        }
    }

    fn has_place(&self, number: u64, place: RequestId) {
        if let Some(running) = &mut lock(&self.turns).running {
            if running.number == number {
                running.place = Some(place);
            }
        }
    }

    fn reply(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        number: u64,
        cancelled: Arc<AtomicBool>,
    ) -> Reply {
        let (peer, shared) = (self.clone(), shared.clone());
        let mut traceback = None;
        let send = move |part| match part {
            // A client of this protocol expects one message.
            Part::First(_) => {}
            Part::Traceback(text) => traceback = Some(text),
            Part::Whole(answer) => {
                peer.settle(&shared, number, answer, traceback.take());
            }
        };
        Reply::through(Box::new(send), cancelled)
    }

    /// Answer the request that is with the policy, unless its client has left.
    fn settle(&self, shared: &Shared, number: u64, answer: Vec<u8>, traceback: Option<String>) {
        // Holds the lock, so that no later answer overtakes.
        let mut turns = lock(&self.turns);
        let Some(running) = turns.running.take_if(|running| running.number == number) else {
            return;
        };
        shared.core.counters.answers_sent.add_one();
        if answer.first() == Some(&ANSWER_OK) {
            self.send(
                &mut turns,
                Opcode::Binary,
                answer,
                1,
                Some(running.accepted),
            );
        } else {
            let accepted = Some(running.accepted);
            let traceback = traceback.filter(|text| shared.expose_tracebacks && !text.is_empty());
            self.fail(&mut turns, answer, traceback, accepted);
        }
    }

    fn refuse(&self, shared: &Shared, turns: &mut Turns, failure: &Failure) {
        shared.core.counters.requests_refused.add_one();
        self.fail(turns, failure.encode(), None, None);
    }

    /// Answer with an error. It ends the connection of openpi's own client, as openpi's server does.
    fn fail(
        &self,
        turns: &mut Turns,
        answer: Vec<u8>,
        traceback: Option<String>,
        accepted: Option<AcceptedRequest>,
    ) {
        let map = answer.get(1..).unwrap_or_default();
        if self.is_ours {
            let error = [ERROR_ENTRY, map].concat();
            return self.send(turns, Opcode::Binary, error, 0, accepted);
        }
        let what = match traceback {
            Some(_) => "Traceback",
            None => "Message",
        };
        let text = traceback.unwrap_or_else(|| {
            let failure = Failure::decode(map).unwrap_or_else(|error| {
                Failure::new(ErrorCode::Internal, format!("an unreadable error: {error}"))
            });
            format!("{}: {}", failure.code, failure.message)
        });
        self.send(turns, Opcode::Text, text.into_bytes(), 0, accepted);
        let reason = format!("Internal server error. {what} included in previous frame.");
        self.outbox.close(close::INTERNAL_ERROR, &reason);
        turns.has_left = true;
        turns.waiting.clear();
    }

    fn send(
        &self,
        turns: &mut Turns,
        opcode: Opcode,
        bytes: Vec<u8>,
        skipped: usize,
        answers: Option<AcceptedRequest>,
    ) {
        turns.is_answering = true;
        let mut held = Reservation::empty(self.account.clone());
        held.grow_for_answer(bytes.len());
        self.outbox.send(Outgoing {
            opcode,
            bytes,
            skipped,
            _held: Some(held),
            _answers: answers,
        });
    }
}
