//! Keeps at most one connection, made when a request needs it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{watch, Notify};
use tokio::time::{sleep, timeout_at};

use super::carrier::{dial, Carrier};
use super::config::ClientConfig;
use super::dial::{RepairCounts, Sessions};
use super::error::{AttemptError, ClientError};
use super::exchange::ExchangeError;
use super::known::Known;
use super::lines::Progress;
use super::message::{Errand, Message, DEADLINE_KEY};
use super::reply::Answer;
use super::turn::Turn;
use crate::buffers::Buffer;
use crate::codec::{Limits, Value};
use crate::link::first_actions::FIRST_ACTIONS_KEY;
use crate::link::first_receiver::FirstReceiver;
use crate::link::wire::{ErrorCode, Failure};
use crate::quic::backoff::Backoff;
use crate::relay::access::RelayAccess;

/// The next answer's buffer starts with the size of the last one, up to this.
const LARGEST_EXPECTED: usize = 1 << 20;

/// What a server lists in `supports` that reads images as JPEG.
const JPEG: &str = "jpeg";

#[derive(Debug)]
pub(super) struct Links {
    config: ClientConfig,
    sessions: Sessions,
    server: String,
    known: Arc<Mutex<Known>>,
    state: watch::Sender<State>,
    /// Number of requests that wait for a connection.
    waiting: AtomicUsize,
    demand: Notify,
    /// Attempts to connect so far: begun, and finished.
    attempts_begun: AtomicU32,
    attempts_over: AtomicU32,
    last_answer: AtomicUsize,
    closing: AtomicBool,
    changes: Changes,
}

#[derive(Debug, Clone)]
enum State {
    /// No connection, with the reason.
    Down(Reason),
    Up(Arc<Carrier>),
    /// An attempt failed in a way that another cannot change.
    Hopeless(ClientError),
}

/// Whether a client has a connection, and if not, why.
#[derive(Debug, Clone)]
pub enum Standing {
    Up {
        /// How long nothing has come from the server.
        quiet: Duration,
        round_trip: Duration,
    },
    Down(String),
    NotReady(Failure),
    Hopeless(ClientError),
}

#[derive(Debug, Clone)]
enum Reason {
    Unreachable(String),
    NotReady(Failure),
}

impl Links {
    pub fn new(config: ClientConfig, known: Arc<Mutex<Known>>) -> Arc<Self> {
        Arc::new(Self {
            server: config.server(),
            config,
            sessions: Sessions::default(),
            known,
            state: watch::Sender::new(State::Down(silent())),
            waiting: AtomicUsize::new(0),
            demand: Notify::new(),
            attempts_begun: AtomicU32::new(0),
            attempts_over: AtomicU32::new(0),
            last_answer: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            changes: Changes::default(),
        })
    }

    /// Carry one request; connect first if necessary.
    pub async fn run(
        &self,
        message: &Message,
        timeout: Option<Duration>,
        asked: Instant,
        turn: Option<&Turn>,
    ) -> Result<Answer, ClientError> {
        let answer = self.carry(message, timeout, asked, turn).await;
        if answer.is_err() && self.closing.load(Ordering::Relaxed) {
            return Err(ClientError::Closed {
                server: self.server.clone(),
            });
        }
        answer
    }

    async fn carry(
        &self,
        message: &Message,
        timeout: Option<Duration>,
        asked: Instant,
        turn: Option<&Turn>,
    ) -> Result<Answer, ClientError> {
        let mut not_ready = None;
        let mut answer = Answer {
            bytes: Buffer::default(),
            round_trip: Duration::ZERO,
            bytes_up: 0,
            connect_attempts: 0,
            first: None,
        };
        if message.errand() == Errand::Connect {
            self.connect(asked, timeout).await?;
            return Ok(answer);
        }
        loop {
            let (link, attempts) = self.link(message.errand(), asked, timeout).await?;
            answer.connect_attempts += attempts;
            if message.errand() == Errand::Meet {
                if self.meet(&link, asked, timeout).await? {
                    return Ok(answer);
                }
                continue;
            }
            match self.send(&link, message, timeout, asked, turn).await {
                Ok((bytes, bytes_up)) => {
                    let size = bytes.len().min(LARGEST_EXPECTED);
                    self.last_answer.store(size, Ordering::Relaxed);
                    answer.round_trip = asked.elapsed();
                    answer.bytes_up = bytes_up;
                    answer.bytes = bytes;
                    answer.first = message.first().and_then(FirstReceiver::arrived);
                    return Ok(answer);
                }
                // It was begun.
                Err(ExchangeError::Failed(error)) if has_first(message) => return Err(error),
                Err(ExchangeError::Failed(ClientError::Server(failure)))
                    if failure.code == ErrorCode::NotReady.name() =>
                {
                    // The server has not begun it, so it may be sent again, also to the server's
                    // successor.
                    wait_again(turn);
                    let now = Instant::now();
                    let (delays, until, said) = not_ready.get_or_insert_with(|| {
                        let until =
                            timeout.map_or(now + self.config.connect_timeout, |t| asked + t);
                        (Backoff::new(random_seed()), until, failure.clone())
                    });
                    *said = failure.clone();
                    let again_at = now + delays.next().unwrap_or_default();
                    if again_at >= *until {
                        return Err(ClientError::Server(failure));
                    }
                    let _ = timeout_at(again_at.into(), link.lost()).await;
                }
                // It timed out while being repeated: the server's reason for `not_ready` tells the
                // user more.
                Err(ExchangeError::Failed(error @ ClientError::Timeout { .. })) => {
                    let said = not_ready.map(|(_, _, said)| ClientError::Server(said));
                    return Err(said.unwrap_or(error));
                }
                Err(ExchangeError::Failed(error)) => return Err(error),
                // The connection ended before the server began this request.
                Err(ExchangeError::NotSent(reason)) => {
                    if !self.config.requests_connect {
                        return Err(self.not_begun(reason));
                    }
                    wait_again(turn);
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Wait until there was a connection; a server that is not ready may have closed it again.
    async fn connect(&self, asked: Instant, timeout: Option<Duration>) -> Result<(), ClientError> {
        let mut state = self.state.subscribe();
        let turned_away = async {
            let is_there = |state: &State| matches!(state, State::Down(Reason::NotReady(_)));
            while state.changed().await.is_ok() && !is_there(&state.borrow_and_update()) {}
        };
        tokio::select! {
            biased;
            link = self.link(Errand::Connect, asked, timeout) => link.map(|_| ()),
            () = turned_away => Ok(()),
        }
    }

    /// Wait for the server's metadata; false if only another connection can bring it.
    async fn meet(
        &self,
        link: &Carrier,
        asked: Instant,
        timeout: Option<Duration>,
    ) -> Result<bool, ClientError> {
        let within = timeout.unwrap_or(self.config.connect_timeout);
        match timeout_at((asked + within).into(), link.introduction().verdict()).await {
            Ok(Ok(metadata)) => {
                self.learn(metadata);
                Ok(true)
            }
            Ok(Err(AttemptError::Final(error))) => Err(error),
            Ok(Err(AttemptError::Again(_) | AttemptError::NotReady(_))) => Ok(false),
            Err(_) => Err(self.no_link(within, silent())),
        }
    }

    /// The answer, and the number of bytes sent for it.
    async fn send(
        &self,
        link: &Carrier,
        message: &Message,
        timeout: Option<Duration>,
        asked: Instant,
        turn: Option<&Turn>,
    ) -> Result<(Buffer, usize), ExchangeError> {
        let sent = Instant::now();
        let left = timeout.map(|within| within.saturating_sub(asked.elapsed()));
        let pieces = message.pieces(left);
        let bytes_up = pieces.bytes();
        if let Some(turn) = turn {
            turn.note(Progress::IsSent);
        }
        let has_arrived = AtomicBool::new(false);
        let arrived = || {
            has_arrived.store(true, Ordering::Relaxed);
            if let Some(turn) = turn {
                turn.note(Progress::HasArrived);
            }
        };
        let exchange = link.exchange(
            pieces,
            self.last_answer.load(Ordering::Relaxed),
            self.config.answer_bytes,
            &self.server,
            (Some(&arrived), message.first()),
        );
        let answer = match timeout {
            None => exchange.await?,
            Some(within) => match timeout_at((asked + within).into(), exchange).await {
                Ok(answer) => answer?,
                Err(_) => {
                    return Err(ExchangeError::Failed(ClientError::Timeout {
                        server: self.server.clone(),
                        within,
                        silent: link.silence(sent, has_arrived.load(Ordering::Relaxed)),
                    }))
                }
            },
        };
        Ok((answer, bytes_up))
    }

    pub fn repairs(&self) -> &RepairCounts {
        self.sessions.repairs()
    }

    /// The current connection, if there is one.
    pub fn current(&self) -> Option<Arc<Carrier>> {
        match &*self.state.borrow() {
            State::Up(link) if link.is_up() => Some(link.clone()),
            _ => None,
        }
    }

    /// Waits for another standing than the one with the number `known`, up to `within`, or for
    /// [`nudge`](Self::nudge); returns the current one.
    pub fn standing(&self, known: u64, within: Duration) -> (u64, Standing) {
        let number = self.changes.wait(known, within);
        let standing = match &*self.state.borrow() {
            State::Up(link) if link.is_up() => match link.quiet() {
                Some((quiet, round_trip)) => Standing::Up { quiet, round_trip },
                None => Standing::Up {
                    quiet: Duration::ZERO,
                    round_trip: Duration::ZERO,
                },
            },
            State::Up(_) => Standing::Down(LOST.to_owned()),
            State::Down(Reason::Unreachable(reason)) => Standing::Down(reason.clone()),
            State::Down(Reason::NotReady(failure)) => Standing::NotReady(failure.clone()),
            State::Hopeless(error) => Standing::Hopeless(error.clone()),
        };
        (number, standing)
    }

    /// Ends a wait of [`standing`](Self::standing), the next one if none is under way.
    pub fn nudge(&self) {
        self.changes.nudge();
    }

    fn enter(&self, state: State) {
        self.state.send_replace(state);
        self.changes.note();
    }

    fn not_begun(&self, reason: String) -> ClientError {
        ClientError::NotBegun {
            server: self.server.clone(),
            reason,
        }
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// A connection, if there is one within `connect_timeout` and before `timeout` since `asked`;
    /// and the number of attempts waited for.
    async fn link(
        &self,
        errand: Errand,
        asked: Instant,
        timeout: Option<Duration>,
    ) -> Result<(Arc<Carrier>, u32), ClientError> {
        let mut state = self.state.subscribe();
        if let State::Up(link) = &*state.borrow_and_update() {
            if link.is_up() {
                return Ok((link.clone(), 0));
            }
        }
        let before = self.attempts_over.load(Ordering::Relaxed);
        if !self.config.requests_connect && errand == Errand::Ask {
            let reason = match &*state.borrow() {
                State::Hopeless(error) => return Err(error.clone()),
                State::Down(Reason::Unreachable(reason)) => reason.clone(),
                State::Down(Reason::NotReady(failure)) => failure.message.clone(),
                State::Up(_) => LOST.to_owned(),
            };
            return Err(self.not_begun(reason));
        }
        let _place = Place::take(&self.waiting);
        let connect_timeout = self.config.connect_timeout;
        let within = timeout.map_or(connect_timeout, |timeout| timeout.min(connect_timeout));
        let until = Instant::now() + connect_timeout;
        let until = timeout
            .map_or(until, |timeout| until.min(asked + timeout))
            .into();
        loop {
            self.demand.notify_one();
            let changed = timeout_at(until, state.changed()).await;
            match (&*state.borrow_and_update(), changed) {
                (State::Up(link), _) if link.is_up() => {
                    let begun = self.attempts_begun.load(Ordering::Relaxed);
                    return Ok((link.clone(), begun.wrapping_sub(before)));
                }
                (State::Hopeless(error), Ok(_)) => return Err(error.clone()),
                (State::Down(reason), Err(_)) => return Err(self.no_link(within, reason.clone())),
                (_, Err(_)) => return Err(self.no_link(within, silent())),
                (_, Ok(_)) => {}
            }
        }
    }

    /// Connect whenever a request waits for it. An attempt continues when its request has timed
    /// out, so that a control loop of short timeouts gets a connection, too.
    pub async fn keep(self: Arc<Self>) {
        let mut is_welcome = true;
        loop {
            self.demand.notified().await;
            if self.waiting.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut delays = Backoff::new(random_seed());
            loop {
                self.attempts_begun.fetch_add(1, Ordering::Relaxed);
                let attempt = self.attempt(&mut is_welcome).await;
                self.attempts_over.fetch_add(1, Ordering::Relaxed);
                match attempt {
                    Ok(link) => {
                        let reason = Reason::Unreachable(link.lost().await);
                        self.enter(State::Down(reason));
                        break;
                    }
                    Err(AttemptError::Final(error)) => {
                        self.enter(State::Hopeless(error));
                        break;
                    }
                    Err(AttemptError::Again(reason)) => {
                        let reason = Reason::Unreachable(reason);
                        self.enter(State::Down(reason));
                    }
                    Err(AttemptError::NotReady(failure)) => {
                        let reason = Reason::NotReady(failure);
                        self.enter(State::Down(reason));
                    }
                }
                sleep(delays.next().unwrap_or_default()).await;
                if self.waiting.load(Ordering::Relaxed) == 0 {
                    break;
                }
            }
        }
    }

    /// Connect and send the hello. Requests are sent behind it at once, unless the last hello had
    /// no good answer: then they wait for this one's, because they would probably be sent in vain.
    async fn attempt(&self, is_welcome: &mut bool) -> Result<Arc<Carrier>, AttemptError> {
        let link = Arc::new(dial(&self.config, &self.sessions).await?);
        if *is_welcome {
            self.announce(&link);
        }
        let verdict = tokio::select! {
            biased;
            verdict = link.introduction().verdict() => verdict,
            never = lose(&link) => match never {},
        };
        let was_welcome = std::mem::replace(is_welcome, verdict.is_ok());
        match verdict {
            Ok(metadata) => {
                if !was_welcome {
                    self.announce(&link);
                }
                self.learn(metadata);
                Ok(link)
            }
            Err(error) => {
                link.close().await;
                Err(error)
            }
        }
    }

    /// Make `link` the connection for all requests.
    fn announce(&self, link: &Arc<Carrier>) {
        let mut known = self.known();
        known.buffers = link.buffers();
        known.metadata = None;
        drop(known);
        self.enter(State::Up(link.clone()));
    }

    fn learn(&self, metadata: Bytes) {
        let mut known = self.known();
        known.takes_deadlines = supports(&metadata, DEADLINE_KEY);
        known.gives_first_actions = supports(&metadata, FIRST_ACTIONS_KEY);
        known.reads_jpeg = Some(supports(&metadata, JPEG));
        known.metadata = Some(metadata);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        let state = self.state.borrow().clone();
        if let State::Up(link) = state {
            link.close().await;
        }
    }

    fn no_link(&self, within: Duration, reason: Reason) -> ClientError {
        match reason {
            Reason::NotReady(failure) => ClientError::Server(failure),
            Reason::Unreachable(reason) if self.config.local_path().is_some() => {
                ClientError::NoLocalServer {
                    server: self.server.clone(),
                    within,
                    reason,
                }
            }
            Reason::Unreachable(reason) if self.config.relay.is_some() => {
                ClientError::NoRelayedServer {
                    server: self.server.clone(),
                    relay: self
                        .config
                        .relay
                        .as_ref()
                        .map_or(String::new(), RelayAccess::relay),
                    within,
                    reason,
                }
            }
            Reason::Unreachable(reason) => ClientError::Unreachable {
                server: self.server.clone(),
                port: self.config.port,
                within,
                reason,
            },
        }
    }
}

/// Numbers changes, for a thread that waits for the next.
#[derive(Debug, Default)]
struct Changes {
    counted: Mutex<Counted>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Counted {
    number: u64,
    is_nudged: bool,
}

impl Changes {
    fn note(&self) {
        self.lock().number += 1;
        self.changed.notify_all();
    }

    fn nudge(&self) {
        self.lock().is_nudged = true;
        self.changed.notify_all();
    }

    /// The number, as soon as it is not `known`, after a nudge, or after `within`.
    fn wait(&self, known: u64, within: Duration) -> u64 {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), within, |counted| {
                counted.number == known && !counted.is_nudged
            });
        let mut counted = waited.unwrap_or_else(PoisonError::into_inner).0;
        counted.is_nudged = false;
        counted.number
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that has ended a moment ago, whose reason is not known yet.
const LOST: &str = "the connection has ended";

/// Counts a waiting request while it lives.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Polls for the end of a connection while the caller waits for something else.
async fn lose(link: &Carrier) -> Infallible {
    link.lost().await;
    std::future::pending().await
}

/// Whether first actions of the answer have come.
fn has_first(message: &Message) -> bool {
    message
        .first()
        .is_some_and(|first| first.arrived().is_some())
}

fn wait_again(turn: Option<&Turn>) {
    if let Some(turn) = turn {
        turn.note(Progress::Waits);
    }
}

fn silent() -> Reason {
    Reason::Unreachable("the server is silent".to_owned())
}

/// Whether the metadata lists a key in `supports`.
fn supports(metadata: &[u8], key: &str) -> bool {
    let Ok(metadata) = Value::decode(metadata, Limits::DEFAULT) else {
        return false;
    };
    let Some(Value::List(supported)) = metadata.get("supports") else {
        return false;
    };
    let mut names = supported.iter().map(Value::as_text);
    names.any(|name| name == Some(key))
}

/// Differs between processes and calls; not secret.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_takes_deadlines_when_its_metadata_says_so() {
        let supporting = |names: &[&str]| {
            let names = names.iter().map(|name| Value::from(*name)).collect();
            let metadata = Value::Map(vec![("supports".into(), Value::List(names))]);
            supports(&metadata.encode().unwrap_or_default(), DEADLINE_KEY)
        };
        assert!(supporting(&["session", DEADLINE_KEY]));
        assert!(!supporting(&["session"]));
        assert!(!supports(&[0x80], DEADLINE_KEY));
        assert!(!supports(b"not msgpack", DEADLINE_KEY));
    }
}
