//! One request and its answer on a stream of their own.

use std::convert::Infallible;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};

use crate::buffers::Buffer;
use crate::congestion::Prober;
use crate::link::first_actions::{Front, HEAD_BYTES};
use crate::link::first_receiver::FirstReceiver;
use crate::link::wire::{Failure, ANSWER_ERROR, ANSWER_FIRST, ANSWER_OK};
use crate::quic::gather::{gather_with, Arrived, GatherError};
use crate::quic::repair::Repairer;
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
    prober: &Prober,
    repairer: &Repairer,
    request: Bytes,
    expected: usize,
    limit: usize,
    server: &str,
) -> Result<Buffer, ExchangeError> {
    let request = request.into();
    let none = (None, None);
    exchange_pieces(prober, repairer, request, expected, limit, server, none).await
}

/// Is called when the server has all of a request.
pub(super) type Arrival<'a> = Option<&'a (dyn Fn() + Sync)>;

/// As [`exchange`], for a request in pieces, with what is to be told of its progress.
pub(super) async fn exchange_pieces(
    prober: &Prober,
    repairer: &Repairer,
    request: Pieces,
    expected: usize,
    limit: usize,
    server: &str,
    (arrived, first): (Arrival<'_>, Option<&FirstReceiver>),
) -> Result<Buffer, ExchangeError> {
    let connection = repairer.connection();
    let (send, receive) = connection
        .open_bi()
        .await
        .map_err(|error| ExchangeError::NotSent(describe(&error)))?;
    let mut streams = Streams {
        send,
        receive,
        done: false,
        prober,
        repairer,
    };
    let told = (arrived, first);
    let answer = streams.run(request, expected, limit, server, told).await;
    answer.map_err(|error| match error {
        // A request whose first actions have come was begun.
        ClientError::Lost { reason, .. }
            if all_begun_is_answered(connection) && first.is_none_or(is_awaiting) =>
        {
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

struct Streams<'a> {
    send: SendStream,
    receive: RecvStream,
    done: bool,
    prober: &'a Prober,
    repairer: &'a Repairer,
}

impl Streams<'_> {
    async fn run(
        &mut self,
        mut request: Pieces,
        expected: usize,
        limit: usize,
        server: &str,
        (arrived, first): (Arrival<'_>, Option<&FirstReceiver>),
    ) -> Result<Buffer, ClientError> {
        let lost = |reason| ClientError::Lost {
            server: server.to_owned(),
            reason,
        };
        let has_repair = self.repairer.send(self.send.id(), request.as_mut_slice());
        // A server that refuses the request stops the stream and sends an answer, which must be
        // read.
        if let Err(error) = self.send.write_all_chunks(request.as_mut_slice()).await {
            if let Some(reason) = lost_while_writing(error) {
                return Err(lost(reason));
            }
        }
        let _ = self.send.finish();

        let mut received = 0;
        let admit = |arrived| {
            // A message's repair is bounded by itself.
            if let Arrived::Message(bytes) = arrived {
                received += bytes;
            }
            if received > limit {
                return Err(Refused::TooLarge);
            }
            Ok(())
        };
        let repairer = self.repairer;
        let receive = &mut self.receive;
        let gathered = async {
            match first {
                // They are read from the front of the stream, which has no repair then.
                Some(first) => {
                    let look = |answer: &mut Buffer| take_first(answer, first, limit);
                    gather_with(receive, expected, admit, look).await
                }
                None => repairer.gather(receive, &[], expected, admit).await,
            }
        };
        let gathered = tokio::select! {
            biased;
            gathered = gathered => gathered,
            never = probe_for_ever(self.prober, &self.send, has_repair, arrived) => match never {},
        };
        let answer = match gathered {
            Ok(answer) => answer,
            Err(GatherError::Read(error)) => return Err(lost(connection_error(error))),
            Err(GatherError::Refused(Refused::TooLarge)) => {
                return Err(ClientError::AnswerTooLarge {
                    server: server.to_owned(),
                    limit,
                })
            }
            Err(GatherError::Scattered(why)) => {
                return Err(ClientError::BadAnswer {
                    server: server.to_owned(),
                    reason: why.to_string(),
                })
            }
            Err(GatherError::Refused(Refused::Bad(reason))) => {
                return Err(ClientError::BadAnswer {
                    server: server.to_owned(),
                    reason,
                })
            }
        };
        self.done = true;

        judge_answer(answer, server)
    }
}

/// Why bytes of an answer are not accepted.
enum Refused {
    TooLarge,
    Bad(String),
}

/// Whether no first actions have come.
fn is_awaiting(first: &FirstReceiver) -> bool {
    first.arrived().is_none()
}

/// Take the first actions out of the answer so far, once they are complete.
fn take_first(answer: &mut Buffer, first: &FirstReceiver, limit: usize) -> Result<(), Refused> {
    if !is_awaiting(first) {
        return Ok(());
    }
    let Front::First { length } = Front::of(answer) else {
        return Ok(());
    };
    if length > limit {
        return Err(Refused::TooLarge);
    }
    let end = HEAD_BYTES + length;
    let Some(map) = answer.get(HEAD_BYTES..end) else {
        return Ok(());
    };
    first.receive(map.to_vec().into()).map_err(Refused::Bad)?;
    *answer = answer[end..].to_vec().into();
    Ok(())
}

/// Probe until the server has all of the request, then call `arrived`.
async fn probe_for_ever(
    prober: &Prober,
    send: &SendStream,
    has_repair: bool,
    arrived: Arrival<'_>,
) -> Infallible {
    let _ = prober.until(has_repair, send.stopped()).await;
    if let Some(arrived) = arrived {
        arrived();
    }
    std::future::pending().await
}

impl Drop for Streams<'_> {
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
        Some(&ANSWER_FIRST) => Err(ClientError::BadAnswer {
            server: server.to_owned(),
            reason: "it holds first actions that were not asked for, are cut off or came before"
                .to_owned(),
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, Receiver};
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::link::first_actions;

    const LIMIT: usize = 1 << 20;

    fn receiver() -> (FirstReceiver, Receiver<Vec<u8>>) {
        let (sender, taken) = channel();
        let take = move |map: Buffer| sender.send(map.to_vec()).unwrap();
        (FirstReceiver::new(None, Instant::now(), take), taken)
    }

    fn with_head(map: &[u8]) -> Vec<u8> {
        [&first_actions::head(map.len()).unwrap()[..], map].concat()
    }

    /// What is left for the whole answer after bytes that arrive in pieces.
    fn rest_of(pieces: &[&[u8]], first: &FirstReceiver) -> Result<Vec<u8>, Refused> {
        let mut answer = Buffer::default();
        for piece in pieces {
            answer.extend_from_slice(piece);
            take_first(&mut answer, first, LIMIT)?;
        }
        Ok(answer.to_vec())
    }

    fn refused(pieces: &[&[u8]], first: &FirstReceiver) -> Refused {
        rest_of(pieces, first).err().unwrap()
    }

    #[test]
    fn the_map_is_passed_on_before_the_rest_is_there() {
        let (first, taken) = receiver();
        assert!(matches!(rest_of(&[&with_head(b"map")], &first), Ok(rest) if rest.is_empty()));
        assert_eq!(taken.try_recv().unwrap(), b"map");
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_its_bytes_are_there() {
        let (first, _) = receiver();
        let head = first_actions::head(LIMIT + 1).unwrap();
        assert!(matches!(refused(&[&head], &first), Refused::TooLarge));
    }

    #[test]
    fn a_length_that_is_too_large_leaves_nothing_for_the_answer() {
        let (first, taken) = receiver();
        let head = first_actions::head(100).unwrap();
        let rest = rest_of(&[&head, b"\x80", b"\x00\x80"], &first)
            .ok()
            .unwrap();
        assert!(taken.try_recv().is_err());
        assert!(judge_answer(rest.into(), "gpu:5555").is_err());
    }

    #[test]
    fn maps_that_come_twice_are_no_answer() {
        let (first, taken) = receiver();
        let both = [with_head(b"one"), with_head(b"two"), b"\x00\x80".to_vec()].concat();
        let rest = rest_of(&[&both], &first).ok().unwrap();
        assert_eq!(taken.try_iter().count(), 1);
        assert!(judge_answer(rest.into(), "gpu:5555").is_err());
    }

    #[test]
    fn a_map_without_the_steps_is_refused() {
        let first = FirstReceiver::new(Some(2), Instant::now(), |_| panic!("not valid"));
        let Refused::Bad(reason) = refused(&[&with_head(b"\x80")], &first) else {
            panic!("too large");
        };
        assert!(reason.contains("first actions"), "{reason}");
    }

    proptest! {
        #[test]
        fn the_pieces_in_which_an_answer_arrives_do_not_matter(
            map in prop::collection::vec(any::<u8>(), 0..50),
            answer in prop::collection::vec(any::<u8>(), 0..50),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let whole = [&[ANSWER_OK], &answer[..]].concat();
            let sent = [with_head(&map), whole.clone()].concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(sent.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([sent.len()]) {
                pieces.push(&sent[from..cut]);
                from = cut;
            }
            let (first, taken) = receiver();
            prop_assert_eq!(rest_of(&pieces, &first).ok(), Some(whole));
            prop_assert_eq!(taken.try_recv(), Ok(map));
        }
    }
}
