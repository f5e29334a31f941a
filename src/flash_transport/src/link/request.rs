//! A request on its way to the policy and back, answered exactly once.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::buffers::Buffer;
use crate::link::limits::Reservation;
use crate::link::wire::{ErrorCode, Failure, Kind};

/// A request for the policy. If it is dropped without an answer, its client gets `internal`.
#[derive(Debug)]
pub struct Request {
    pub kind: Kind,
    /// The client's name from its hello, or `peer` if it gave none.
    pub session: Arc<str>,
    /// `ip:port#connection`
    pub peer: Arc<str>,
    /// The msgpack map.
    pub body: Buffer,
    /// Whether it came as a text message of WebSocket, which can hold no map.
    pub is_text: bool,
    pub reply: Reply,
    pub(crate) _reservation: Reservation,
}

/// Answers one request.
pub struct Reply {
    state: Mutex<State>,
    cancelled: Arc<AtomicBool>,
}

struct State {
    /// None once the request is answered.
    send: Option<SendPart>,
    has_first: bool,
}

/// A part of the answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The map of the first actions, ahead of the rest.
    First(Vec<u8>),
    /// The server's traceback, ahead of the error that it belongs to.
    Traceback(String),
    /// The whole answer, first byte included. Nothing follows.
    Whole(Vec<u8>),
}

/// Accepts the parts of an answer in order, on any thread, without waiting for the client.
pub(crate) type SendPart = Box<dyn FnMut(Part) + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    #[error("request is answered already")]
    Answered,
    #[error("request has its first actions already")]
    HasFirst,
}

impl Reply {
    /// A reply, the receiver of its parts, and the flag that marks it as cancelled.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Part>, Arc<AtomicBool>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        // Sending fails if the client has left.
        let send = Box::new(move |part| drop(sender.send(part)));
        (Self::through(send, cancelled.clone()), receiver, cancelled)
    }

    /// A reply that passes its parts to `send`.
    pub(crate) fn through(send: SendPart, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            state: Mutex::new(State {
                send: Some(send),
                has_first: false,
            }),
            cancelled,
        }
    }

    /// Whether the client no longer waits for the answer.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Answer with bytes that start with the answer's kind. Harmless if the client no longer waits.
    pub fn answer(&self, answer: Vec<u8>) -> Result<(), ReplyError> {
        let mut state = self.lock();
        let mut send = state.send.take().ok_or(ReplyError::Answered)?;
        drop(state);
        send(Part::Whole(answer));
        Ok(())
    }

    pub fn fail(&self, code: ErrorCode, message: &str) -> Result<(), ReplyError> {
        self.answer(Failure::new(code, message).encode())
    }

    /// Answer with an error, and with the server's traceback where the client's protocol has one.
    pub fn fail_with_traceback(
        &self,
        code: ErrorCode,
        message: &str,
        traceback: String,
    ) -> Result<(), ReplyError> {
        let mut state = self.lock();
        let send = state.send.as_mut().ok_or(ReplyError::Answered)?;
        send(Part::Traceback(traceback));
        drop(state);
        self.fail(code, message)
    }

    /// Send the map of the first actions ahead of the answer. Only for a client that has asked for
    /// them; harmless if it no longer waits.
    pub fn first_actions(&self, map: Vec<u8>) -> Result<(), ReplyError> {
        // Holds the lock, so that the answer follows.
        let mut state = self.lock();
        if state.send.is_some() && std::mem::replace(&mut state.has_first, true) {
            return Err(ReplyError::HasFirst);
        }
        let send = state.send.as_mut().ok_or(ReplyError::Answered)?;
        send(Part::First(map));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reply = formatter.debug_struct("Reply");
        reply.field("cancelled", &self.is_cancelled()).finish()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let _ = self.fail(ErrorCode::Internal, "the server dropped this request");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_counts_and_a_second_is_an_error() {
        let (reply, mut answer, _) = Reply::new();
        assert_eq!(reply.answer(vec![0]), Ok(()));
        assert_eq!(
            reply.fail(ErrorCode::Internal, "late"),
            Err(ReplyError::Answered)
        );
        drop(reply);
        assert_eq!(answer.try_recv(), Ok(Part::Whole(vec![0])));
        assert!(answer.try_recv().is_err());
    }

    #[test]
    fn first_actions_precede_the_answer_and_come_once() {
        let (reply, mut answer, _) = Reply::new();
        assert_eq!(reply.first_actions(vec![1]), Ok(()));
        assert_eq!(reply.first_actions(vec![2]), Err(ReplyError::HasFirst));
        assert_eq!(reply.answer(vec![0]), Ok(()));
        assert_eq!(reply.first_actions(vec![3]), Err(ReplyError::Answered));
        assert_eq!(answer.try_recv(), Ok(Part::First(vec![1])));
        assert_eq!(answer.try_recv(), Ok(Part::Whole(vec![0])));
        assert!(answer.try_recv().is_err());
    }

    #[test]
    fn a_dropped_request_answers_that_it_was_dropped() {
        let (reply, mut answer, _) = Reply::new();
        drop(reply);
        let Ok(Part::Whole(answer)) = answer.try_recv() else {
            panic!("no answer");
        };
        let failure = Failure::decode(&answer[1..]).unwrap();
        assert_eq!(failure.code, "internal");
    }

    #[test]
    fn answering_a_client_that_has_left_is_harmless() {
        let (reply, answer, _) = Reply::new();
        drop(answer);
        assert_eq!(reply.answer(vec![0]), Ok(()));
    }
}
