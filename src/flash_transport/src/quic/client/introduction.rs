//! The hello of a connection. The first requests are sent behind it before it is answered.

use std::future::{poll_fn, Future};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::error::{AttemptError, ClientError};
use super::exchange::ExchangeError;
use crate::buffers::Buffer;
use crate::link::wire::{ErrorCode, Failure};

const SILENT: &str = "the server is silent";

/// The metadata as a msgpack map, or why the attempt to connect failed.
pub(super) type Verdict = Result<Bytes, AttemptError>;

/// Whether a connection keeps the order of what is sent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// In order: a server that closes the connection without answering the hello has read nothing
    /// behind it.
    Kept,
    /// Not in order: a server may have read requests behind the hello although its answer never
    /// arrived.
    Open,
}

/// A hello under way. Dropping it cancels it.
#[derive(Debug)]
pub(super) struct Introduction {
    outcome: watch::Receiver<Option<Outcome>>,
    exchange: AbortHandle,
    order: Order,
}

#[derive(Debug, Clone)]
enum Outcome {
    Answered(Bytes),
    NotReady(Failure),
    Refused(ClientError),
    /// The connection ended before there was an answer.
    Lost(String),
    Late,
}

impl Introduction {
    /// Let `exchange` send the hello and return the whole answer within `within`. When this
    /// returns, the hello precedes everything that is sent on the connection later.
    pub async fn begin<F>(exchange: F, within: Duration, order: Order) -> Self
    where
        F: Future<Output = Result<Buffer, ExchangeError>> + Send + 'static,
    {
        let (tell, outcome) = watch::channel(None);
        let mut exchange = Box::pin(timeout(within, exchange));
        // The first poll sends it; a spawned task might first run after that of a request.
        let begun = poll_fn(|context| Poll::Ready(exchange.as_mut().poll(context))).await;
        let task = tokio::spawn(async move {
            let answer = match begun {
                Poll::Ready(answer) => answer,
                Poll::Pending => exchange.await,
            };
            // Fails if the connection was given up.
            let _ = tell.send(Some(answer.map_or(Outcome::Late, judge)));
        });
        Self {
            outcome,
            exchange: task.abort_handle(),
            order,
        }
    }

    /// Wait for the result of the hello; the end of the connection is one.
    pub async fn verdict(&self) -> Verdict {
        match self.outcome().await {
            Outcome::Answered(metadata) => Ok(metadata),
            Outcome::NotReady(failure) => Err(AttemptError::NotReady(failure)),
            Outcome::Refused(error) => Err(AttemptError::Final(error)),
            Outcome::Lost(reason) => Err(AttemptError::Again(reason)),
            Outcome::Late => Err(AttemptError::again(SILENT)),
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(&*self.outcome.borrow(), Some(Outcome::Answered(_)))
    }

    pub fn has_failed(&self) -> bool {
        !matches!(&*self.outcome.borrow(), None | Some(Outcome::Answered(_)))
    }

    /// Why a request behind this hello failed, if `error` is the end of their connection: the
    /// answer to the hello tells more, also whether the server can have begun the request.
    pub async fn overrule(&self, error: ExchangeError) -> ExchangeError {
        if !ends_connection(&error) {
            return error;
        }
        match (self.outcome().await, error) {
            // Without a good hello the server begins no request.
            (Outcome::Refused(refusal), _) => ExchangeError::Failed(refusal),
            (Outcome::NotReady(failure), _) => ExchangeError::Failed(ClientError::Server(failure)),
            (Outcome::Lost(reason), _) if self.order == Order::Kept => {
                ExchangeError::NotSent(reason)
            }
            (Outcome::Lost(reason), ExchangeError::Failed(ClientError::Lost { server, .. })) => {
                ExchangeError::Failed(ClientError::Lost { server, reason })
            }
            (Outcome::Late, ExchangeError::Failed(ClientError::Lost { server, .. })) => {
                let reason = SILENT.to_owned();
                ExchangeError::Failed(ClientError::Lost { server, reason })
            }
            (_, error) => error,
        }
    }

    async fn outcome(&self) -> Outcome {
        let mut outcome = self.outcome.clone();
        let known = outcome.wait_for(Option::is_some).await;
        known
            .ok()
            .and_then(|known| known.clone())
            .unwrap_or_else(|| Outcome::Lost("the connection was given up".to_owned()))
    }
}

impl Drop for Introduction {
    fn drop(&mut self) {
        self.exchange.abort();
    }
}

fn ends_connection(error: &ExchangeError) -> bool {
    matches!(
        error,
        ExchangeError::NotSent(_) | ExchangeError::Failed(ClientError::Lost { .. })
    )
}

fn judge(answer: Result<Buffer, ExchangeError>) -> Outcome {
    match answer {
        Ok(answer) => Outcome::Answered(Bytes::from_owner(answer).slice(1..)),
        Err(
            ExchangeError::NotSent(reason)
            | ExchangeError::Failed(ClientError::Lost { reason, .. }),
        ) => Outcome::Lost(reason),
        Err(ExchangeError::Failed(ClientError::Server(failure)))
            if failure.code == ErrorCode::NotReady.name() =>
        {
            Outcome::NotReady(failure)
        }
        Err(ExchangeError::Failed(error)) => Outcome::Refused(error),
    }
}
