//! Delivers answers from the IO thread to their callers.
//!
//! A caller either waits ([`Waiter`]), or goes on and finds the outcome in the client's [`Mailbox`]
//! under its ticket. Each request has exactly one outcome, whatever happens.

use std::sync::mpsc::{channel, sync_channel, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::ClientError;
use crate::buffers::Buffer;
use crate::link::first_receiver::Arrived;

/// An answer and its cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// First byte included.
    pub bytes: Buffer,
    /// From the call to the last byte of the answer, connecting included.
    pub round_trip: Duration,
    /// The message's bytes, first byte included.
    pub bytes_up: usize,
    /// Attempts to connect that this request waited for; 0 where there was a connection.
    pub connect_attempts: u32,
    /// The first actions, if they came ahead.
    pub first: Option<Arrived>,
}

impl Answer {
    /// From the call to the first action.
    pub fn until_first_action(&self) -> Duration {
        self.first.map_or(self.round_trip, |first| first.after)
    }

    /// All bytes of the answer.
    pub fn bytes_down(&self) -> usize {
        self.bytes.len() + self.first.map_or(0, |first| first.bytes)
    }
}

pub type Outcome = Result<Answer, ClientError>;

/// Identifies a request in a [`Mailbox`]; chosen by the caller.
pub type Ticket = u64;

/// Waits for the outcome of a request that the IO thread carries. Dropping it cancels the request.
#[derive(Debug)]
pub(super) struct Waiter {
    outcome: Receiver<Outcome>,
    server: String,
    _interest: Interest,
}

/// The request is cancelled when this is dropped.
#[derive(Debug)]
pub struct Interest {
    _lives: oneshot::Sender<()>,
}

/// Resolves when the request is cancelled.
pub(super) type Abandoned = oneshot::Receiver<()>;

/// Receives the outcome of one request. If dropped without one, the outcome is that the client is
/// closed.
#[derive(Debug)]
pub(super) struct Reply {
    server: String,
    way: Option<Way>,
}

#[derive(Debug)]
enum Way {
    Waiter(SyncSender<Outcome>),
    Mailbox(Ticket, Sender<Mail>),
}

/// The outcomes of submitted requests, in order of arrival.
#[derive(Debug)]
pub struct Mailbox {
    /// None after the mailbox is closed.
    slot: Mutex<Option<Sender<Mail>>>,
    outcomes: Mutex<Receiver<Mail>>,
}

/// The result of waiting at a mailbox.
#[derive(Debug)]
pub enum Mail {
    Outcome(Ticket, Outcome),
    /// The map of the first actions; the outcome follows.
    First(Ticket, Buffer),
    /// No outcome within the time.
    Nothing,
    /// Closed: no outcome will follow.
    Over,
}

impl Reply {
    /// A reply to a thread that waits.
    pub fn to_waiter(server: &str) -> (Self, Waiter, Abandoned) {
        let (sender, outcome) = sync_channel(1);
        let (interest, abandoned) = interest();
        let waiter = Waiter {
            outcome,
            server: server.to_owned(),
            _interest: interest,
        };
        (Self::new(server, Way::Waiter(sender)), waiter, abandoned)
    }

    /// A reply to the mailbox; None if that is closed.
    pub fn to_mailbox(
        server: &str,
        mailbox: &Mailbox,
        ticket: Ticket,
    ) -> Option<(Self, Interest, Abandoned)> {
        let sender = lock(&mailbox.slot).clone()?;
        let (interest, abandoned) = interest();
        let reply = Self::new(server, Way::Mailbox(ticket, sender));
        Some((reply, interest, abandoned))
    }

    fn new(server: &str, way: Way) -> Self {
        Self {
            server: server.to_owned(),
            way: Some(way),
        }
    }

    pub fn send(mut self, outcome: Outcome) {
        self.deliver(outcome);
    }

    fn deliver(&mut self, outcome: Outcome) {
        // Sending fails if the caller has left.
        match self.way.take() {
            Some(Way::Waiter(sender)) => drop(sender.send(outcome)),
            Some(Way::Mailbox(ticket, sender)) => drop(sender.send(Mail::Outcome(ticket, outcome))),
            None => {}
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let server = std::mem::take(&mut self.server);
        self.deliver(Err(ClientError::Closed { server }));
    }
}

impl Waiter {
    /// Wait up to `slice`; `None` if there is no answer yet.
    pub fn wait(&self, slice: Duration) -> Option<Outcome> {
        match self.outcome.recv_timeout(slice) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(ClientError::Closed {
                server: self.server.clone(),
            })),
        }
    }
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = channel();
        Self {
            slot: Mutex::new(Some(sender)),
            outcomes: Mutex::new(receiver),
        }
    }

    /// Accept no more requests. Outcomes of requests under way still arrive.
    pub(crate) fn shut(&self) {
        lock(&self.slot).take();
    }

    /// Accepts the first actions of a request; None if the mailbox is closed.
    pub(super) fn first_slot(&self, ticket: Ticket) -> Option<impl Fn(Buffer) + Send + Sync> {
        let sender = lock(&self.slot).clone()?;
        // Sending fails if the caller has left.
        Some(move |map| drop(sender.send(Mail::First(ticket, map))))
    }

    /// Wait up to `slice` for the next outcome. One caller at a time; others block until it
    /// returns.
    pub fn next(&self, slice: Duration) -> Mail {
        match lock(&self.outcomes).recv_timeout(slice) {
            Ok(mail) => mail,
            Err(RecvTimeoutError::Timeout) => Mail::Nothing,
            Err(RecvTimeoutError::Disconnected) => Mail::Over,
        }
    }
}

fn interest() -> (Interest, Abandoned) {
    let (lives, abandoned) = oneshot::channel();
    (Interest { _lives: lives }, abandoned)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn answer() -> Answer {
        Answer {
            bytes: vec![0].into(),
            round_trip: Duration::ZERO,
            bytes_up: 1,
            connect_attempts: 0,
            first: None,
        }
    }

    fn closed() -> ClientError {
        ClientError::Closed {
            server: "gpu:5555".into(),
        }
    }

    #[test]
    fn a_waiter_gets_its_answer() {
        let (reply, waiter, _) = Reply::to_waiter("gpu:5555");
        reply.send(Ok(answer()));
        assert_eq!(waiter.wait(SOON), Some(Ok(answer())));
    }

    #[test]
    fn a_dropped_reply_says_that_the_client_is_closed() {
        let (reply, waiter, _) = Reply::to_waiter("gpu:5555");
        drop(reply);
        assert_eq!(waiter.wait(SOON), Some(Err(closed())));
        let mailbox = Mailbox::new();
        let (reply, _interest, _) = Reply::to_mailbox("gpu:5555", &mailbox, 7).unwrap();
        drop(reply);
        let Mail::Outcome(7, outcome) = mailbox.next(SOON) else {
            panic!("no mail");
        };
        assert_eq!(outcome, Err(closed()));
    }

    #[test]
    fn losing_interest_is_noticed() {
        let (_reply, waiter, mut abandoned) = Reply::to_waiter("gpu:5555");
        let empty = oneshot::error::TryRecvError::Empty;
        assert_eq!(abandoned.try_recv(), Err(empty));
        drop(waiter);
        let closed = oneshot::error::TryRecvError::Closed;
        assert_eq!(abandoned.try_recv(), Err(closed));
    }

    #[test]
    fn a_shut_mailbox_is_over_when_the_last_outcome_is_out() {
        let mailbox = Mailbox::new();
        let (reply, _interest, _) = Reply::to_mailbox("gpu:5555", &mailbox, 1).unwrap();
        mailbox.shut();
        assert!(Reply::to_mailbox("gpu:5555", &mailbox, 2).is_none());
        assert!(matches!(mailbox.next(Duration::ZERO), Mail::Nothing));
        reply.send(Ok(answer()));
        assert!(matches!(mailbox.next(SOON), Mail::Outcome(1, Ok(_))));
        assert!(matches!(mailbox.next(SOON), Mail::Over));
    }
}
