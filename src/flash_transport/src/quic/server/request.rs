//! A request on its way through the policy, answered exactly once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::quic::limits::Reservation;
use crate::quic::wire::{ErrorCode, Failure, Kind};

/// A request for the policy. Dropped without an answer, it answers `internal` by itself.
#[derive(Debug)]
pub struct Request {
    pub kind: Kind,
    /// What the client said in its hello, or `peer` where it said nothing.
    pub session: Arc<str>,
    /// `ip:port#connection`
    pub peer: Arc<str>,
    /// The msgpack map.
    pub body: Vec<u8>,
    pub reply: Reply,
    pub(super) _reservation: Reservation,
}

/// The place for the answer of one request.
#[derive(Debug)]
pub struct Reply {
    answer: Mutex<Option<oneshot::Sender<Vec<u8>>>>,
    cancelled: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request is answered already")]
pub struct AlreadyAnswered;

impl Reply {
    /// The place, where its answer comes out, and the flag that says that nobody wants it.
    pub(super) fn new() -> (Self, oneshot::Receiver<Vec<u8>>, Arc<AtomicBool>) {
        let (sender, receiver) = oneshot::channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let reply = Self {
            answer: Mutex::new(Some(sender)),
            cancelled: cancelled.clone(),
        };
        (reply, receiver, cancelled)
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Answer with bytes whose first is the kind of the answer. Harmless when nobody waits any more.
    pub fn answer(&self, answer: Vec<u8>) -> Result<(), AlreadyAnswered> {
        let mut place = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = place.take().ok_or(AlreadyAnswered)?;
        // Fails when the client has left.
        let _ = sender.send(answer);
        Ok(())
    }

    pub fn fail(&self, code: ErrorCode, message: &str) -> Result<(), AlreadyAnswered> {
        self.answer(Failure::new(code, message).encode())
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
