//! A request on its way to the policy and back, answered exactly once.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

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
    pub reply: Reply,
    pub(crate) _reservation: Reservation,
}

/// Answers one request.
pub struct Reply {
    send: Mutex<Option<SendAnswer>>,
    cancelled: Arc<AtomicBool>,
}

/// Accepts an answer on any thread, without waiting for the client.
pub(crate) type SendAnswer = Box<dyn FnOnce(Vec<u8>) + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request is answered already")]
pub struct AlreadyAnswered;

impl Reply {
    /// A reply, the receiver of its answer, and the flag that marks it as cancelled.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Vec<u8>>, Arc<AtomicBool>) {
        let (sender, receiver) = oneshot::channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        // Sending fails if the client has left.
        let send = Box::new(move |answer| drop(sender.send(answer)));
        (Self::through(send, cancelled.clone()), receiver, cancelled)
    }

    /// A reply that passes its answer to `send`.
    pub(crate) fn through(send: SendAnswer, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            send: Mutex::new(Some(send)),
            cancelled,
        }
    }

    /// Whether the client no longer waits for the answer.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Answer with bytes that start with the answer's kind. Harmless if the client no longer waits.
    pub fn answer(&self, answer: Vec<u8>) -> Result<(), AlreadyAnswered> {
        let mut place = self.send.lock().unwrap_or_else(PoisonError::into_inner);
        let send = place.take().ok_or(AlreadyAnswered)?;
        drop(place);
        send(answer);
        Ok(())
    }

    pub fn fail(&self, code: ErrorCode, message: &str) -> Result<(), AlreadyAnswered> {
        self.answer(Failure::new(code, message).encode())
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
            Err(AlreadyAnswered)
        );
        drop(reply);
        assert_eq!(answer.try_recv(), Ok(vec![0]));
    }

    #[test]
    fn a_dropped_request_answers_that_it_was_dropped() {
        let (reply, mut answer, _) = Reply::new();
        drop(reply);
        let answer = answer.try_recv().unwrap();
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
