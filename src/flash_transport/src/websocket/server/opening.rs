//! How a connection begins: TLS or not, the HTTP request, the key, and where the request leads.

use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::shared::{Readiness, Shared, FLUSH_TIME};
use super::wire::{Wire, TLS_HANDSHAKE};
use crate::link::keys::ApiKey;
use crate::link::server_core::PeerName;
use crate::link::wire::ErrorCode;
use crate::websocket::handshake::{
    HttpRequest, Page, Status, Upgrade, HEALTH_PATH, LONGEST_REQUEST, SESSIONS_PREFIX,
};

const STARTING: &str = "starting";
const NO_KEY: &str = "send the header Authorization: Api-Key <key> with a key of this server";

/// A client that has asked for something, and the bytes that it sent behind the request.
pub(super) struct Opened {
    pub wire: Wire,
    pub request: HttpRequest,
    pub ahead: Vec<u8>,
}

/// Where a request leads.
pub(super) enum Route {
    /// To the policy, as openpi's clients ask it.
    Policy { upgrade: Upgrade, key: usize },
    /// To what answers the session API.
    Sessions { key: usize },
    /// To a page.
    Page(Page),
}

/// Read a client's request. `None` if it sends none, or was refused.
pub(super) async fn open(shared: &Shared, stream: TcpStream) -> Option<Opened> {
    let mut wire = encrypted(shared, stream).await?;
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let before = bytes.len();
        if !matches!(wire.read_buf(&mut bytes).await, Ok(1..)) {
            return None;
        }
        // A request ends with a line.
        let may_be_whole = bytes[before..].contains(&b'\n') || bytes.len() > LONGEST_REQUEST;
        if !may_be_whole {
            continue;
        }
        match HttpRequest::parse(&bytes) {
            Ok(None) => {}
            Ok(Some((request, size))) => {
                let ahead = bytes.split_off(size);
                return Some(Opened {
                    wire,
                    request,
                    ahead,
                });
            }
            Err(page) => {
                shared.core.counters.handshakes_failed.add_one();
                show(&mut wire, &page).await;
                return None;
            }
        }
    }
}

async fn encrypted(shared: &Shared, stream: TcpStream) -> Option<Wire> {
    let mut first = [0];
    if !matches!(stream.peek(&mut first).await, Ok(1..)) {
        return None;
    }
    match &shared.tls {
        Some(tls) if first == [TLS_HANDSHAKE] => match tls.accept(stream).await {
            Ok(stream) => Some(Wire::Tls(Box::new(stream))),
            Err(_) => {
                shared.core.counters.handshakes_failed.add_one();
                None
            }
        },
        _ => Some(Wire::Plain(stream)),
    }
}

/// Decide where a request leads. Everything but the health page needs a key.
pub(super) async fn route(shared: &Arc<Shared>, request: &HttpRequest, client: &PeerName) -> Route {
    if request.path() == HEALTH_PATH {
        return Route::Page(health_page(ask_readiness(shared).await.unhealthy));
    }
    let key = match judge_key(shared, request, client).await {
        Ok(key) => key,
        Err(page) => return Route::Page(page),
    };
    if request.path().starts_with(SESSIONS_PREFIX) {
        return match shared.sessions {
            Some(_) => Route::Sessions { key },
            None => Route::Page(Page::new(Status::NotFound, "this server has no sessions")),
        };
    }
    if request.offers_ours() {
        if let Some(reason) = ask_readiness(shared).await.not_ready {
            let text = format!("{}: {reason}", ErrorCode::NotReady);
            return Route::Page(Page::new(Status::ServiceUnavailable, text));
        }
    }
    match request.upgrade() {
        Ok(upgrade) => Route::Policy { upgrade, key },
        Err(page) => Route::Page(page),
    }
}

/// Send a page, and let the client read it.
pub(super) async fn show(wire: &mut Wire, page: &Page) {
    let sent = async {
        wire.write_all(&page.encode()).await?;
        wire.flush().await?;
        wire.shutdown().await
    };
    if matches!(timeout(FLUSH_TIME, sent).await, Ok(Ok(()))) {
        // Unread bytes would make the system end the connection before the client has the page.
        let mut scratch = Vec::with_capacity(1024);
        let read = async {
            while matches!(wire.read_buf(&mut scratch).await, Ok(1..)) {
                scratch.clear();
            }
        };
        let _ = timeout(FLUSH_TIME, read).await;
    }
}

fn health_page(trouble: Option<String>) -> Page {
    match trouble {
        None => Page::new(Status::Ok, "OK"),
        Some(trouble) => Page::new(Status::ServiceUnavailable, trouble),
    }
}

async fn ask_readiness(shared: &Arc<Shared>) -> Readiness {
    let ask = shared.readiness.clone();
    let asked = tokio::task::spawn_blocking(move || ask()).await;
    let mut readiness = asked.unwrap_or_else(|error| Readiness {
        not_ready: None,
        unhealthy: Some(error.to_string()),
    });
    if shared.core.metadata_answer().borrow().is_none() {
        let starting = || STARTING.to_owned();
        readiness.not_ready.get_or_insert_with(starting);
        readiness.unhealthy.get_or_insert_with(starting);
    }
    readiness
}

async fn judge_key(
    shared: &Arc<Shared>,
    request: &HttpRequest,
    client: &PeerName,
) -> Result<usize, Page> {
    match shared.core.hello_delay(client, Instant::now()) {
        Ok((delay, _guard)) => {
            // even a sleep of zero lasts until the timer's next millisecond
            if !delay.is_zero() {
                sleep(delay).await;
            }
        }
        Err(failure) => return Err(Page::new(Status::TooManyRequests, failure.message)),
    }
    let key = request.api_key().map(ApiKey::received);
    shared
        .core
        .judge_key(key.as_ref(), client, Instant::now())
        .map_err(|_| Page::new(Status::Unauthorized, NO_KEY))
}
