//! One request and its answer on a stream of their own.

use std::convert::Infallible;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};

use crate::buffers::Buffer;
use crate::congestion::Prober;
use crate::link::wire::{Failure, ANSWER_ERROR, ANSWER_OK};
use crate::quic::gather::{gather, GatherError};
use crate::quic::signal::Signal;

use super::error::{
    bad_answer, connection_error, describe, judge_failure, lost_while_writing, ClientError,
};
use super::message::Pieces;

#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The server has not begun it: it is safe to send it again.
    NotSent(String),
    Failed(ClientError),
}

/// Send `request` (first byte included) and return the whole answer, whose first byte is [`ANSWER_OK`].
///
/// Dropping the future cancels the request at the server.
pub(super) async fn exchange(
    connection: &Connection,
    prober: &Prober,
    request: Bytes,
    expected: usize,
    limit: usize,
    server: &str,
) -> Result<Buffer, ExchangeError> {
    let request = request.into();
    exchange_pieces(connection, prober, request, expected, limit, server, None).await
}

/// As [`exchange`], for a request in pieces. `arrived` is called when the server has all of it.
pub(super) async fn exchange_pieces(
    connection: &Connection,
    prober: &Prober,
    request: Pieces,
    expected: usize,
    limit: usize,
    server: &str,
    arrived: Option<&(dyn Fn() + Sync)>,
) -> Result<Buffer, ExchangeError> {
    let (send, receive) = connection
        .open_bi()
        .await
        .map_err(|error| ExchangeError::NotSent(describe(&error)))?;
    let mut streams = Streams {
        send,
        receive,
        done: false,
    };
    let answer = streams
        .run(prober, request, expected, limit, server, arrived)
        .await;
    answer.map_err(|error| match error {
        ClientError::Lost { reason, .. } if all_begun_is_answered(connection) => {
            ExchangeError::NotSent(reason)
        }
        error => ExchangeError::Failed(error),
    })
}

/// Whether the server closed the connection with the assurance that every request it had begun was
/// answered.
fn all_begun_is_answered(connection: &Connection) -> bool {
    matches!(
        connection.close_reason(),
        Some(ConnectionError::ApplicationClosed(close))
            if close.error_code == Signal::ShuttingDown.into()
    )
}

struct Streams {
    send: SendStream,
    receive: RecvStream,
    done: bool,
}

impl Streams {
    async fn run(
        &mut self,
        prober: &Prober,
        mut request: Pieces,
        expected: usize,
        limit: usize,
        server: &str,
        arrived: Option<&(dyn Fn() + Sync)>,
    ) -> Result<Buffer, ClientError> {
        let lost = |reason| ClientError::Lost {
            server: server.to_owned(),
            reason,
        };
        // A server that refuses the request stops the stream and sends an answer, which must be
        // read.
        if let Err(error) = self.send.write_all_chunks(request.as_mut_slice()).await {
            if let Some(reason) = lost_while_writing(error) {
                return Err(lost(reason));
            }
        }
        let _ = self.send.finish();

        let mut received = 0;
        let admit = |bytes| {
            received += bytes;
            if received > limit {
                return Err(());
            }
            Ok(())
        };
        let gathered = tokio::select! {
            biased;
            gathered = gather(&mut self.receive, expected, admit) => gathered,
            never = probe_for_ever(prober, &self.send, arrived) => match never {},
        };
        let answer = match gathered {
            Ok(answer) => answer,
            Err(GatherError::Read(error)) => return Err(lost(connection_error(error))),
            Err(GatherError::Refused(())) => {
                return Err(ClientError::AnswerTooLarge {
                    server: server.to_owned(),
                    limit,
                })
            }
        };
        self.done = true;

        judge_answer(answer, server)
    }
}

/// Probe until the server has all of the request, then call `arrived`.
async fn probe_for_ever(
    prober: &Prober,
    send: &SendStream,
    arrived: Option<&(dyn Fn() + Sync)>,
) -> Infallible {
    let _ = prober.until(send.stopped()).await;
    if let Some(arrived) = arrived {
        arrived();
    }
    std::future::pending().await
}

impl Drop for Streams {
    fn drop(&mut self) {
        if !self.done {
            // Each fails if its half of the stream has ended already.
            let _ = self.send.reset(Signal::Cancelled.into());
            let _ = self.receive.stop(Signal::Cancelled.into());
        }
    }
}

/// The result or the error in a whole answer.
pub(super) fn judge_answer(mut answer: Buffer, server: &str) -> Result<Buffer, ClientError> {
    match answer.first() {
        Some(&ANSWER_OK) => {
            // The result's arrays keep this buffer alive, so it must not be larger than they are.
            if answer.capacity() > 2 * answer.len() {
                answer.shrink_to_fit();
            }
            Ok(answer)
        }
        Some(&ANSWER_ERROR) => Err(match Failure::decode(&answer[1..]) {
            Ok(failure) => judge_failure(server, failure),
            Err(error) => bad_answer(server, error),
        }),
        Some(byte) => Err(ClientError::BadAnswer {
            server: server.to_owned(),
            reason: format!("it starts with byte {byte:#04x}"),
        }),
        None => Err(ClientError::BadAnswer {
            server: server.to_owned(),
            reason: "it is empty".to_owned(),
        }),
    }
}
