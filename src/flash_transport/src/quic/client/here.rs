//! A request that the waiting thread carries itself, if the connection supports it.
//!
//! Saves waking the IO thread and being woken by it, which is most of a request's time on one
//! computer. Everything else than sending and receiving (connecting, waiting for a server that is
//! not ready) is left to the IO thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::carrier::{CarriedHere, Carrier};
use super::error::ClientError;
use super::exchange::ExchangeError;
use super::job::{Job, Request};
use super::link::Links;
use super::message::{Errand, Message};
use super::reply::{Answer, Outcome, Reply, Waiter};
use crate::link::first_receiver::FirstReceiver;
use crate::link::wire::ErrorCode;

/// A request, and what is needed to send it.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub message: Message,
    pub timeout: Option<Duration>,
    pub asked: Instant,
    pub jobs: mpsc::UnboundedSender<Job>,
    pub server: String,
}

/// A request under way, carried by this thread or handed to the IO thread.
#[derive(Debug)]
pub(super) struct Here {
    links: Arc<Links>,
    question: Question,
    bytes_up: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Here(CarriedHere),
    Elsewhere(Box<Waiter>),
    Over,
}

impl Question {
    /// Hand the request to the IO thread.
    pub fn ask(self) -> Waiter {
        let (reply, waiter, abandoned) = Reply::to_waiter(&self.server);
        // Fails if the client is closed; then dropping `reply` tells the caller.
        let _ = self.jobs.send(Job::Request(Request {
            message: self.message,
            timeout: self.timeout,
            asked: self.asked,
            line: None,
            reply,
            abandoned,
        }));
        waiter
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout
            .and_then(|within| self.asked.checked_add(within))
    }
}

impl Here {
    /// Carry `question` on this thread if a connection supports it and is free; otherwise return it.
    pub fn begin(links: &Arc<Links>, question: Question) -> Result<Self, Question> {
        let link: Option<Arc<Carrier>> = match question.message.errand() {
            Errand::Ask => links.current(),
            // Only the IO thread connects.
            Errand::Connect | Errand::Meet => None,
        };
        let left = question
            .timeout
            .map(|within| within.saturating_sub(question.asked.elapsed()));
        let pieces = question.message.pieces(left);
        let bytes_up = pieces.bytes();
        match link.and_then(|link| link.carry_here(pieces, question.message.first())) {
            None => Err(question),
            Some(carried) => Ok(Self {
                links: links.clone(),
                question,
                bytes_up,
                stage: Stage::Here(carried),
            }),
        }
    }

    /// Continue for up to `slice`; `None` if there is no answer yet.
    pub fn wait(&mut self, slice: Duration) -> Option<Outcome> {
        let now = Instant::now();
        let until = now.checked_add(slice).unwrap_or(now);
        let deadline = self.question.deadline();
        let answer = match &mut self.stage {
            Stage::Elsewhere(waiter) => return waiter.wait(slice),
            Stage::Over => return Some(Err(self.closed())),
            Stage::Here(carried) => {
                carried.carry(deadline.map_or(until, |deadline| until.min(deadline)))
            }
        };
        match answer {
            Some(Ok(bytes)) => {
                self.stage = Stage::Over;
                Some(Ok(Answer {
                    bytes,
                    round_trip: self.question.asked.elapsed(),
                    bytes_up: self.bytes_up,
                    connect_attempts: 0,
                    first: self
                        .question
                        .message
                        .first()
                        .and_then(FirstReceiver::arrived),
                }))
            }
            Some(Err(error)) => self.failed(error),
            None if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                self.stage = Stage::Over;
                Some(Err(ClientError::Timeout {
                    server: self.question.server.clone(),
                    within: self.question.timeout.unwrap_or_default(),
                    silent: None,
                }))
            }
            None => None,
        }
    }

    fn failed(&mut self, error: ExchangeError) -> Option<Outcome> {
        self.stage = Stage::Over;
        let first = self.question.message.first();
        let has_first = first.is_some_and(|first| first.arrived().is_some());
        match error {
            _ if self.links.is_closing() => Some(Err(self.closed())),
            ExchangeError::Failed(error) if !is_not_ready(&error) || has_first => Some(Err(error)),
            // The server has not begun it, so it may be sent again.
            _ => {
                self.stage = Stage::Elsewhere(Box::new(self.question.clone().ask()));
                None
            }
        }
    }

    fn closed(&self) -> ClientError {
        ClientError::Closed {
            server: self.question.server.clone(),
        }
    }
}

fn is_not_ready(error: &ClientError) -> bool {
    matches!(error, ClientError::Server(failure) if failure.code == ErrorCode::NotReady.name())
}
