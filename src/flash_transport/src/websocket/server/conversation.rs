//! One client's connection, from its first byte to its last.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{interval_at, timeout, MissedTickBehavior};

use super::lock::lock;
use super::opening::{self, Opened, Route};
use super::outbox::Written;
use super::peer::Peer;
use super::reader::{Broken, Reader, Received};
use super::sessions;
use super::shared::{Shared, FLUSH_TIME};
use super::wire::Wire;
use crate::link::server_core::{ConnectedClient, PeerName};
use crate::text::shown;
use crate::websocket::frame::{close, close_answer, close_payload};
use crate::websocket::handshake::{HttpRequest, Upgrade};

/// Serve a client until it leaves.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    number: u64,
) {
    let name = PeerName::of_socket(address, number);
    // If it fails, answers are only later.
    let _ = stream.set_nodelay(true);
    let opening = async {
        let mut opened = opening::open(&shared, stream).await?;
        match opening::route(&shared, &opened.request, &name).await {
            Route::Page(page) => {
                opening::show(&mut opened.wire, &page).await;
                None
            }
            route => Some((opened, route)),
        }
    };
    let mut closing = shared.closing.subscribe();
    let opened = tokio::select! {
        opened = timeout(shared.core.limits.hello_time, opening) => opened,
        _ = closing.wait_for(|closing| *closing) => return,
    };
    match opened {
        Err(_) => shared.core.note_silent(&name),
        Ok(None) => {}
        Ok(Some((opened, Route::Sessions { key }))) => {
            sessions::forward(&shared, opened, &name, key).await;
        }
        Ok(Some((opened, Route::Policy { upgrade, key }))) => {
            converse(shared, opened, &upgrade, name, key, number).await;
        }
        Ok(Some((_, Route::Page(_)))) => {}
    }
}

/// Why a conversation ends.
enum Ending {
    /// The client has left, or is given up: nothing is sent any more.
    Gone,
    /// A close frame with this payload is to be sent.
    Close(Vec<u8>),
    /// It was sent.
    Closed,
}

async fn converse(
    shared: Arc<Shared>,
    opened: Opened,
    upgrade: &Upgrade,
    name: PeerName,
    key: usize,
    number: u64,
) {
    let Opened {
        mut wire,
        request,
        ahead,
    } = opened;
    let answered = async {
        wire.write_all(&upgrade.encode()).await?;
        wire.flush().await
    };
    if !matches!(timeout(FLUSH_TIME, answered).await, Ok(Ok(()))) {
        return;
    }
    let peer = Peer::new(&shared, name, upgrade.is_ours);
    let entry = Entry::new(&shared, &peer, number, &request, key);
    talk(&shared, &peer, entry, wire, ahead).await;
}

/// `entry` lists the client until it leaves, before its connection is done with.
async fn talk(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    entry: Entry<'_>,
    wire: Wire,
    ahead: Vec<u8>,
) {
    let limits = &shared.core.limits;
    let (read, mut write) = tokio::io::split(wire);
    let mut reader = Reader::new(read, peer, limits, ahead);
    let mut writing = pin!(peer
        .outbox
        .write(&mut write, limits.answer_time, || peer.has_sent(shared)));
    let mut closing = shared.closing.subscribe();
    let ending = {
        let mut reading = pin!(read_messages(shared, peer, &mut reader));
        let mut metadata = shared.core.metadata_answer();
        let mut waiting = Some(Waiting::begin(shared));
        let mut silence = Silence::new(Instant::now());
        let first_ping = tokio::time::Instant::now() + shared.ping_interval;
        let mut pings = interval_at(first_ping, shared.ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ending = &mut reading => break ending,
                written = &mut writing => break end_of_writing(shared, written),
                _ = closing.wait_for(|closing| *closing) => {
                    break Ending::Close(close_payload(close::GOING_AWAY, ""));
                }
                answer = published(&mut metadata), if waiting.is_some() => {
                    waiting = None;
                    peer.begin(answer.get(1..).unwrap_or_default());
                }
                _ = pings.tick() => {
                    let heard = peer.heard.swap(false, Ordering::Relaxed);
                    if silence.lasts(heard, Instant::now()) > shared.longest_silence {
                        let reason = "keepalive ping timeout";
                        break Ending::Close(close_payload(close::INTERNAL_ERROR, reason));
                    }
                    if let Some(payload) = peer.pings.begin(Instant::now()) {
                        peer.outbox.ping(payload);
                    }
                }
            }
        }
    };
    peer.leave(shared);
    drop(entry);
    let is_closed = match ending {
        Ending::Gone => false,
        Ending::Close(payload) => {
            peer.outbox.close_with(payload);
            matches!(timeout(FLUSH_TIME, writing).await, Ok(Written::Closed))
        }
        Ending::Closed => true,
    };
    peer.outbox.end();
    if !is_closed {
        return;
    }
    // Ending the connection with unread bytes would drop what the client has not read yet.
    tokio::select! {
        _ = timeout(limits.hello_time, reader.discard()) => {}
        _ = async {
            let _ = closing.wait_for(|closing| *closing).await;
            tokio::time::sleep(FLUSH_TIME).await;
        } => {}
    }
}

async fn read_messages<R: AsyncRead + Unpin>(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    reader: &mut Reader<'_, R>,
) -> Ending {
    loop {
        peer.wait_for_room().await;
        match reader.next().await {
            Ok(Received::Message(message)) => peer.take(shared, message),
            Ok(Received::Ping(payload)) => peer.outbox.pong(payload),
            Ok(Received::Pong(payload)) => peer.pings.end(&payload, Instant::now()),
            Ok(Received::Close(payload)) => {
                // Before the answer, so that a client that has left knows that its request will not
                // be run.
                peer.leave(shared);
                peer.outbox.clear();
                return Ending::Close(match close_answer(&payload) {
                    Some(code) => close_payload(code, ""),
                    None => Vec::new(),
                });
            }
            Err(broken) => return end_of_reading(&broken),
        }
    }
}

fn end_of_reading(broken: &Broken) -> Ending {
    match broken.close_code() {
        Some(code) => Ending::Close(close_payload(code, &broken.to_string())),
        None => Ending::Gone,
    }
}

fn end_of_writing(shared: &Shared, written: Written) -> Ending {
    match written {
        Written::Closed => Ending::Closed,
        Written::Broken => Ending::Gone,
        Written::Unread => {
            shared.core.counters.answers_unread.add_one();
            Ending::Gone
        }
    }
}

/// The metadata's answer, once it is there.
async fn published(metadata: &mut watch::Receiver<Option<Bytes>>) -> Bytes {
    let answer = metadata.wait_for(Option::is_some).await;
    // The server keeps the sender, so that there is an answer.
    answer
        .ok()
        .and_then(|answer| answer.clone())
        .unwrap_or_default()
}

/// How long nothing has come from a client.
struct Silence {
    since: Instant,
}

impl Silence {
    fn new(now: Instant) -> Self {
        Self { since: now }
    }

    /// `heard`: whether something has come since the last call.
    fn lasts(&mut self, heard: bool, now: Instant) -> Duration {
        if heard {
            self.since = now;
        }
        now.saturating_duration_since(self.since)
    }
}

/// A client in the lists; removed when dropped.
struct Entry<'a> {
    shared: &'a Shared,
    peer: Arc<Peer>,
    number: u64,
}

impl<'a> Entry<'a> {
    fn new(
        shared: &'a Shared,
        peer: &Arc<Peer>,
        number: u64,
        request: &HttpRequest,
        key: usize,
    ) -> Self {
        let client = ConnectedClient {
            session: peer.name.name.clone(),
            software: shown(&request.header("User-Agent").unwrap_or_default()),
            key,
        };
        shared.core.counters.connections_accepted.add_one();
        shared.core.note_connected(&peer.name, client, "");
        lock(&shared.pings).insert(number, peer.pings.clone());
        let peer = peer.clone();
        Self {
            shared,
            peer,
            number,
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        lock(&self.shared.pings).remove(&self.number);
        self.shared.core.note_disconnected(&self.peer.name, "");
    }
}

/// A client that waits for the metadata.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
