//! Connections of the session API, which Python answers behind a unix socket.
//!
//! What a client sends goes on in whole messages, whose bytes count as those of any request: from
//! their arrival until the session API has sent as many messages.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use tokio::io::{copy, split, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::lock::lock;
use super::opening::{show, Opened};
use super::peer::{Message, Peer};
use super::reader::{Reader, Received};
use super::session_answers::SessionAnswers;
use super::shared::{Shared, FLUSH_TIME};
use crate::link::limits::Reservation;
use crate::link::server_core::PeerName;
use crate::websocket::frame::{close, close_payload, masked_head, Opcode};
use crate::websocket::handshake::{Page, Status};

/// Most bytes behind the head of a request that is no upgrade: it has no use for any.
const LONGEST_PAGE_BODY: u64 = 64 << 10;
/// Bytes that are read of an answer at a time.
const STEP: usize = 64 << 10;

/// The messages that the session API has not answered, the oldest first.
type Held = Mutex<VecDeque<Reservation>>;

/// Pass a connection on until one of its ends closes it.
pub(super) async fn forward(shared: &Arc<Shared>, opened: Opened, client: &PeerName, key: usize) {
    let Opened {
        mut wire,
        request,
        ahead,
    } = opened;
    let Some(path) = &shared.sessions else {
        return;
    };
    let Ok(mut inner) = UnixStream::connect(path).await else {
        let page = Page::new(
            Status::ServiceUnavailable,
            "the session API does not answer",
        );
        return show(&mut wire, &page).await;
    };
    let head = request.forwarded(&client.name, key);
    if inner.write_all(&head).await.is_err() {
        return;
    }
    let (from_client, to_client) = split(wire);
    let (from_inner, to_inner) = inner.into_split();
    let held = Held::default();
    // Its account bounds what the client's messages hold.
    let peer = Peer::new(shared, client.clone(), true);
    let mut forth = pin!(async {
        if request.upgrade().is_ok() {
            let reader = Reader::new(from_client, &peer, &shared.core.limits, ahead);
            pass_messages(shared, reader, to_inner, &held).await;
        } else {
            let body = (&ahead[..]).chain(from_client).take(LONGEST_PAGE_BODY);
            pass_page_body(body, to_inner).await;
        }
    });
    let mut back = pin!(pass_answers(from_inner, to_client, &held));
    tokio::select! {
        // A client that has its answer need not be waited for.
        () = &mut back => drop(timeout(FLUSH_TIME, forth).await),
        () = &mut forth => back.await,
    }
}

/// Pass whole messages on, until the client leaves or breaks the rules; the session API is told of
/// that in a close frame, which it answers.
async fn pass_messages<R: AsyncRead + Unpin>(
    shared: &Shared,
    mut reader: Reader<'_, R>,
    mut to: impl AsyncWrite + Unpin,
    held: &Held,
) {
    loop {
        let (opcode, payload) = match reader.next().await {
            Ok(Received::Message(Message::Request {
                body,
                is_text,
                reservation,
            })) => {
                lock(held).push_back(reservation);
                let opcode = if is_text {
                    Opcode::Text
                } else {
                    Opcode::Binary
                };
                if write(&mut to, opcode, &body).await.is_err() {
                    break;
                }
                continue;
            }
            Ok(Received::Message(Message::Refused(failure))) => {
                let payload = close_payload(close::TRY_AGAIN_LATER, &failure.message);
                (Opcode::Close, payload)
            }
            Ok(Received::Ping(payload)) => (Opcode::Ping, payload),
            Ok(Received::Pong(payload)) => (Opcode::Pong, payload),
            Ok(Received::Close(payload)) => (Opcode::Close, payload),
            Err(broken) => match broken.close_code() {
                Some(code) => (Opcode::Close, close_payload(code, &broken.to_string())),
                None => break,
            },
        };
        let is_written = write(&mut to, opcode, &payload).await.is_ok();
        if opcode == Opcode::Close || !is_written {
            break;
        }
    }
    let _ = to.shutdown().await;
    // Unread bytes would make the system end the connection before the client has the answer.
    let _ = timeout(shared.core.limits.hello_time, reader.discard()).await;
}

async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    opcode: Opcode,
    payload: &[u8],
) -> std::io::Result<()> {
    to.write_all(&masked_head(opcode, payload.len())).await?;
    to.write_all(payload).await
}

async fn pass_page_body(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let _ = copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

/// Pass bytes on to their end. Either end may break off.
async fn pass_answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    held: &Held,
) {
    let mut answers = SessionAnswers::default();
    let mut bytes = Vec::with_capacity(STEP);
    while matches!(from.read_buf(&mut bytes).await, Ok(1..)) {
        for _ in 0..answers.count(&bytes) {
            lock(held).pop_front();
        }
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            break;
        }
        bytes.clear();
    }
    let _ = to.shutdown().await;
}
