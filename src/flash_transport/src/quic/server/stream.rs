//! One request on its stream: read it, pass it to the policy, send the answer.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::buffers::Buffer;
use crate::link::agreement;
use crate::link::first_actions;
use crate::link::limits::Reservation;
use crate::link::server_core::{HelloOutcome, HELLO_SAID, SHUTTING_DOWN, WARMING_UP};
use crate::link::wire::{ErrorCode, Failure, Kind, SMALL_MAP};
use crate::quic::gather::{Arrived, GatherError};
use crate::quic::signal::Signal;

use super::liveness;
use super::peer::{HelloState, Peer};
use super::shared::{Shared, Stage, FLUSH_TIME};
use super::windows;
use crate::link::request::{Part, Reply, Request};

/// The next request's buffer starts with the size of the last one, up to this.
const LARGEST_EXPECTED: usize = 1 << 20;

const EMPTY: &str = "request is empty";

/// What to do with a request that does not reach the policy.
enum End {
    /// Tell the client why.
    Refuse(Failure),
    /// The client does not listen any more.
    Gone,
}

pub(super) async fn serve_stream(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    mut send: SendStream,
    mut receive: RecvStream,
) {
    let _busy = shared.busy.upgrade();
    let mut stage = shared.stage.subscribe();
    let read = tokio::select! {
        biased;
        _ = stage.wait_for(|stage| *stage >= Stage::Draining) => Err(End::Refuse(shutting_down())),
        read = timeout(shared.core.limits.request_time, read_request(&shared, &peer, &send, &mut receive)) => {
            read.unwrap_or_else(|_| Err(End::Refuse(too_slow(&shared))))
        }
    };
    match read {
        Err(End::Gone) => {
            shared.core.counters.requests_cancelled.add_one();
            let _ = send.reset(Signal::Cancelled.into());
        }
        Err(End::Refuse(failure)) => {
            shared.core.counters.requests_refused.add_one();
            let _ = receive.stop(Signal::Refused.into());
            answer(&shared, &peer, &mut send, failure.encode()).await;
        }
        Ok((Kind::Hello, body, _)) => answer_hello(&shared, &peer, &mut send, &body).await,
        Ok((kind, body, reservation)) => {
            ask_policy(&shared, &peer, &mut send, kind, body, reservation).await;
        }
    }
}

/// Read kind and body, and refuse what this client may not send as early as possible.
async fn read_request(
    shared: &Shared,
    peer: &Peer,
    send: &SendStream,
    receive: &mut RecvStream,
) -> Result<(Kind, Buffer, Reservation), End> {
    let stream = receive.id();
    let first = tokio::select! {
        biased;
        first = receive.read_chunk(1, true) => Some(first),
        // Without the first byte: its packet may be lost.
        () = peer.repairer.arrival(stream) => None,
    };
    let first = match first {
        Some(Ok(Some(chunk))) => Some(chunk.bytes[0]),
        Some(Ok(None)) => return Err(refuse(ErrorCode::BadRequest, EMPTY)),
        Some(Err(error)) => return Err(gone(error)),
        None => None,
    };
    let kind = first.map(kind_of).transpose()?;
    let limit = match kind {
        Some(Kind::Hello) => SMALL_MAP.bytes,
        _ => {
            hold_for_hello(peer, send).await?;
            // The session store already makes a replay fail; this check does not depend on it.
            let mut established = peer.established.subscribe();
            let _ = established.wait_for(|established| *established).await;
            shared.core.limits.message_bytes
        }
    };

    let mut reservation = Reservation::empty(peer.account.clone());
    let mut received = 0;
    let admit = |arrived| {
        let bytes = match arrived {
            Arrived::Message(bytes) => {
                received += bytes;
                bytes
            }
            Arrived::Repair(bytes) => bytes,
        };
        if received > limit {
            return Err(Failure::new(
                ErrorCode::BadRequest,
                format!("request is larger than {limit} bytes"),
            ));
        }
        reservation.grow(bytes).map_err(|exhausted| {
            let message = format!(
                "unanswered requests hold {} bytes already; try again when some are answered",
                exhausted.limit
            );
            Failure::new(ErrorCode::NotReady, message)
        })
    };
    let expected = peer.last_request.load(Ordering::Relaxed).min(limit);
    let begin: Vec<u8> = first.into_iter().collect();
    let read = peer.repairer.gather(receive, &begin, expected, admit);
    let mut body = match read.await {
        Ok(body) => body,
        Err(GatherError::Refused(failure)) => return Err(End::Refuse(failure)),
        Err(GatherError::Read(error)) => return Err(gone(error)),
        Err(GatherError::Scattered(why)) => {
            return Err(refuse(ErrorCode::BadRequest, why.to_string()))
        }
    };
    let kind = match kind {
        Some(kind) => kind,
        None if body.is_empty() => return Err(refuse(ErrorCode::BadRequest, EMPTY)),
        None => kind_of(body.remove(0))?,
    };
    if kind != Kind::Hello {
        let size = body.len().min(LARGEST_EXPECTED);
        peer.last_request.store(size, Ordering::Relaxed);
    }
    Ok((kind, body, reservation))
}

fn kind_of(first: u8) -> Result<Kind, End> {
    Kind::from_byte(first).ok_or_else(|| {
        let known = Kind::ALL.map(|kind| format!("{:#04x} {}", kind.byte(), kind.name()));
        let message = format!(
            "request starts with byte {first:#04x}, expected one of: {}",
            known.join(", ")
        );
        refuse(ErrorCode::BadRequest, message)
    })
}

/// Wait for the verdict on the connection's hello: QUIC does not order streams, so a request may
/// overtake it. The request is not read meanwhile; [`windows`] limits how much of it QUIC holds,
/// `ServerLimits::hello_time` for how long.
async fn hold_for_hello(peer: &Peer, send: &SendStream) -> Result<(), End> {
    let mut hello = peer.hello.subscribe();
    let is_judged = |now: &HelloState| !matches!(now, HelloState::Awaited | HelloState::Judged);
    let judged = tokio::select! {
        biased;
        judged = hello.wait_for(is_judged) => judged,
        // The client has cancelled, or the connection has ended.
        _ = send.stopped() => return Err(End::Gone),
    };
    match judged.as_deref() {
        Ok(HelloState::Accepted(_)) => Ok(()),
        Ok(HelloState::NotReady) => Err(refuse(ErrorCode::NotReady, WARMING_UP)),
        // The connection ends; the answer to the hello gives the reason.
        Ok(HelloState::Refused | HelloState::Awaited | HelloState::Judged) | Err(_) => {
            Err(End::Gone)
        }
    }
}

async fn answer_hello(shared: &Arc<Shared>, peer: &Peer, send: &mut SendStream, body: &[u8]) {
    let core = &shared.core;
    if !peer.begin_hello() {
        core.counters.requests_refused.add_one();
        let failure = Failure::new(ErrorCode::BadRequest, HELLO_SAID);
        return answer(shared, peer, send, failure.encode()).await;
    }
    let is_resumed = !*peer.established.borrow();
    match core.hello_delay(&peer.name, Instant::now()) {
        Ok((delay, _guard)) => {
            // even a sleep of zero lasts until the timer's next millisecond
            if !delay.is_zero() {
                sleep(delay).await;
            }
        }
        Err(failure) => {
            peer.hello.send_replace(HelloState::Refused);
            let _ = timeout(FLUSH_TIME, answer(shared, peer, send, failure.encode())).await;
            return peer
                .connection
                .close(Signal::Done.into(), failure.message.as_bytes());
        }
    }
    if peer.connection.close_reason().is_some() {
        // Welcome after its end, it would be listed for ever.
        return;
    }
    match core.judge_hello(body, &peer.name, Instant::now()) {
        HelloOutcome::Malformed(failure) => {
            peer.hello.send_replace(HelloState::Awaited);
            answer(shared, peer, send, failure.encode()).await;
        }
        HelloOutcome::Refused(failure) => {
            peer.hello.send_replace(HelloState::Refused);
            let _ = timeout(FLUSH_TIME, answer(shared, peer, send, failure.encode())).await;
            peer.connection
                .close(Signal::Unauthenticated.into(), failure.message.as_bytes());
        }
        HelloOutcome::NotReady(failure) => {
            peer.hello.send_replace(HelloState::NotReady);
            answer(shared, peer, send, failure.encode()).await;
        }
        HelloOutcome::Welcome {
            session,
            answer: metadata,
            reads_repair,
        } => {
            let accepted = match reads_repair && shared.repair {
                true => agreement::accept(&metadata),
                false => None,
            };
            if accepted.is_some() {
                peer.repairer.agree();
            }
            let metadata = accepted.unwrap_or(metadata);
            peer.hello
                .send_replace(HelloState::Accepted(session.clone()));
            if is_resumed {
                core.counters.hellos_resumed.add_one();
            }
            windows::divide(shared);
            liveness::take_over_session(shared, peer, &session);
            answer(shared, peer, send, metadata).await;
        }
    }
}

async fn ask_policy(
    shared: &Shared,
    peer: &Peer,
    send: &mut SendStream,
    kind: Kind,
    body: Buffer,
    reservation: Reservation,
) {
    let (reply, mut parts, cancelled) = Reply::new();
    let session = peer.session().unwrap_or_else(|| peer.name.name.clone());
    let request = Request {
        kind,
        session,
        peer: peer.name.name.clone(),
        body,
        is_text: false,
        reply,
        _reservation: reservation,
    };
    let entered = match shared.core.accepted.accept(&peer.accepted) {
        Some(accepted) => shared
            .core
            .queue
            .enter(&peer.name.name, request)
            .map(|id| (id, accepted)),
        None => Err(request),
    };
    let Ok((id, accepted)) = entered else {
        shared.core.counters.requests_refused.add_one();
        return answer(shared, peer, send, shutting_down().encode()).await;
    };
    shared.core.counters.requests_accepted.add_one();

    let mut unread = Reservation::empty(peer.account.clone());
    let mut stage = shared.stage.subscribe();
    let mut has_first = false;
    let result = loop {
        let next = async {
            match has_first {
                // Nothing follows the first actions for a while.
                true => peer.prober.until(false, parts.recv()).await,
                false => parts.recv().await,
            }
        };
        let part = tokio::select! {
            biased;
            part = next => part,
            _ = send.stopped() => None,
            _ = stage.wait_for(|stage| *stage == Stage::Closing) => {
                cancelled.store(true, Ordering::Relaxed);
                match shared.core.queue.withdraw(&id) {
                    Some(_) => Some(Part::Whole(shutting_down().encode())),
                    // The policy has it. Unless it is answered by now, its fate is unknown.
                    None => match whole_of(&mut parts) {
                        Some(result) => Some(Part::Whole(result)),
                        None => {
                            let _ = send.reset(Signal::Unfinished.into());
                            return accepted.leave_unanswered();
                        }
                    },
                }
            }
        };
        match part {
            Some(Part::Whole(result)) => break Some(result),
            Some(Part::First(map)) => {
                has_first = true;
                unread.grow_for_answer(map.len());
                if !send_first_actions(shared, send, map).await {
                    break None;
                }
            }
            // Is for openpi's own client, which speaks WebSocket.
            Some(Part::Traceback(_)) => {}
            None => break None,
        }
    };
    match result {
        Some(result) => {
            unread.grow_for_answer(result.len());
            match has_first {
                // Repair describes all of a stream, of which these have left already.
                true => finish(shared, peer, send, result.into(), false).await,
                false => answer(shared, peer, send, result).await,
            }
        }
        None => {
            cancelled.store(true, Ordering::Relaxed);
            shared.core.counters.requests_cancelled.add_one();
            let _ = send.reset(Signal::Cancelled.into());
            // If the policy has it already, the policy sees `cancelled`.
            drop(shared.core.queue.withdraw(&id));
        }
    }
}

/// The whole answer, if it is there already.
fn whole_of(parts: &mut mpsc::UnboundedReceiver<Part>) -> Option<Vec<u8>> {
    loop {
        if let Part::Whole(answer) = parts.try_recv().ok()? {
            return Some(answer);
        }
    }
}

/// Send the first actions ahead of the answer; returns whether the client still reads.
async fn send_first_actions(shared: &Shared, send: &mut SendStream, map: Vec<u8>) -> bool {
    // One that is too long for its head is left out: the whole answer says the same.
    let Some(head) = first_actions::head(map.len()) else {
        return true;
    };
    let mut chunks = [Bytes::copy_from_slice(&head), Bytes::from(map)];
    let written = send.write_all_chunks(&mut chunks);
    match timeout(shared.core.limits.answer_time, written).await {
        Ok(written) => written.is_ok(),
        Err(_) => {
            shared.core.counters.answers_unread.add_one();
            let _ = send.reset(Signal::TooSlow.into());
            false
        }
    }
}

/// Send an answer to its end; it is dropped if the client does not read it.
async fn answer(shared: &Shared, peer: &Peer, send: &mut SendStream, answer: impl Into<Bytes>) {
    let answer = answer.into();
    let has_repair = peer.repairer.send(send.id(), std::slice::from_ref(&answer));
    finish(shared, peer, send, answer, has_repair).await;
}

/// The last part of [`answer`].
async fn finish(
    shared: &Shared,
    peer: &Peer,
    send: &mut SendStream,
    answer: Bytes,
    has_repair: bool,
) {
    let written = timeout(shared.core.limits.answer_time, send.write_chunk(answer)).await;
    match written {
        Ok(Ok(())) => {
            shared.core.counters.answers_sent.add_one();
            let _ = send.finish();
            // Closing the connection discards undelivered data, so a stopping server waits for this
            // stream.
            let delivered = peer.prober.until(has_repair, send.stopped());
            let _ = timeout(shared.core.limits.answer_time, delivered).await;
        }
        Ok(Err(_)) => shared.core.counters.requests_cancelled.add_one(),
        Err(_) => {
            shared.core.counters.answers_unread.add_one();
            let _ = send.reset(Signal::TooSlow.into());
        }
    }
}

fn shutting_down() -> Failure {
    Failure::new(ErrorCode::NotReady, SHUTTING_DOWN)
}

fn too_slow(shared: &Shared) -> Failure {
    let seconds = shared.core.limits.request_time.as_secs_f64();
    let message = format!("request did not arrive within {seconds} s");
    Failure::new(ErrorCode::DeadlineExceeded, message)
}

fn refuse(code: ErrorCode, message: impl Into<String>) -> End {
    End::Refuse(Failure::new(code, message))
}

/// Resolves when the client resets the stream, or the connection ends.
fn gone(_error: ReadError) -> End {
    End::Gone
}
