//! Keeps at most one connection, made when somebody needs it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{watch, Notify};
use tokio::time::{sleep, timeout_at};

use super::dial::{dial, Link};
use super::error::{AttemptError, ClientError};
use super::exchange::{exchange, ExchangeError};
use super::{ClientConfig, Known};
use crate::quic::backoff::Backoff;

/// The next answer's buffer starts with the size of the last one, up to this.
const LARGEST_EXPECTED: usize = 1 << 20;

pub(super) struct Links {
    config: ClientConfig,
    server: String,
    known: Arc<Mutex<Known>>,
    state: watch::Sender<State>,
    /// Requests that wait for a connection.
    waiting: AtomicUsize,
    demand: Notify,
    last_answer: AtomicUsize,
    closing: AtomicBool,
}

#[derive(Debug, Clone)]
enum State {
    /// No connection, and why.
    Down(String),
    Up(Arc<Link>),
    /// An attempt has failed in a way that another will not mend.
    Hopeless(ClientError),
}

impl Links {
    pub fn new(config: ClientConfig, known: Arc<Mutex<Known>>) -> Arc<Self> {
        Arc::new(Self {
            server: config.server(),
            config,
            known,
            state: watch::Sender::new(State::Down("the server is silent".to_owned())),
            waiting: AtomicUsize::new(0),
            demand: Notify::new(),
            last_answer: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        })
    }

    /// Carry one request, connecting first where needed.
    pub async fn run(
        &self,
        message: &Bytes,
        timeout: Option<Duration>,
        asked: Instant,
    ) -> Result<Vec<u8>, ClientError> {
        let answer = self.carry(message, timeout, asked).await;
        if answer.is_err() && self.closing.load(Ordering::Relaxed) {
            return Err(ClientError::Closed {
                server: self.server.clone(),
            });
        }
        answer
    }

    async fn carry(
        &self,
        message: &Bytes,
        timeout: Option<Duration>,
        asked: Instant,
    ) -> Result<Vec<u8>, ClientError> {
        let connect_within = timeout.map_or(self.config.connect_timeout, |timeout| {
            timeout.min(self.config.connect_timeout)
        });
        loop {
            let link = self.link(asked, connect_within).await?;
            if message.is_empty() {
                return Ok(Vec::new());
            }
            let exchange = exchange(
                &link.connection,
                &link.prober,
                message.clone(),
                self.last_answer.load(Ordering::Relaxed),
                self.config.answer_bytes,
                &self.server,
            );
            let answer = match timeout {
                None => exchange.await,
                Some(within) => {
                    let Ok(answer) = timeout_at((asked + within).into(), exchange).await else {
                        return Err(ClientError::Timeout {
                            server: self.server.clone(),
                            within,
                        });
                    };
                    answer
                }
            };
            match answer {
                Ok(answer) => {
                    let size = answer.len().min(LARGEST_EXPECTED);
                    self.last_answer.store(size, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(ExchangeError::Failed(error)) => return Err(error),
                // The connection ended before this request used it.
                Err(ExchangeError::NotSent(_)) => tokio::task::yield_now().await,
            }
        }
    }

    /// The connection, if there is one before `within` has passed since `asked`.
    async fn link(&self, asked: Instant, within: Duration) -> Result<Arc<Link>, ClientError> {
        let mut state = self.state.subscribe();
        if let State::Up(link) = &*state.borrow_and_update() {
            if link.is_up() {
                return Ok(link.clone());
            }
        }
        let _place = Place::take(&self.waiting);
        let until = (asked + within).into();
        loop {
            self.demand.notify_one();
            let changed = timeout_at(until, state.changed()).await;
            match (&*state.borrow_and_update(), changed) {
                (State::Up(link), _) if link.is_up() => return Ok(link.clone()),
                (State::Hopeless(error), Ok(_)) => return Err(error.clone()),
                (State::Down(reason), Err(_)) => return Err(self.unreachable(within, reason)),
                (_, Err(_)) => return Err(self.unreachable(within, "the server is silent")),
                (_, Ok(_)) => {}
            }
        }
    }

    /// Connect whenever a request waits for it. An attempt goes on when the request that caused it has left, so that
    /// a control loop of short timeouts comes to a connection, too.
    pub async fn keep(self: Arc<Self>) {
        loop {
            self.demand.notified().await;
            if self.waiting.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut delays = Backoff::new(random_seed());
            loop {
                match dial(&self.config).await {
                    Ok(link) => {
                        let reason = self.announce(Arc::new(link)).await;
                        self.state.send_replace(State::Down(reason));
                        break;
                    }
                    Err(AttemptError::Final(error)) => {
                        self.state.send_replace(State::Hopeless(error));
                        break;
                    }
                    Err(AttemptError::Again(reason)) => {
                        self.state.send_replace(State::Down(reason));
                    }
                }
                sleep(delays.next().unwrap_or_default()).await;
                if self.waiting.load(Ordering::Relaxed) == 0 {
                    break;
                }
            }
        }
    }

    /// Let everybody use `link` until it is lost; says why.
    async fn announce(&self, link: Arc<Link>) -> String {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known {
            metadata: Some(link.metadata.clone()),
            buffers: Some(link.buffers),
        };
        self.state.send_replace(State::Up(link.clone()));
        link.lost().await
    }

    pub async fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        let state = self.state.borrow().clone();
        if let State::Up(link) = state {
            link.close().await;
        }
    }

    fn unreachable(&self, within: Duration, reason: &str) -> ClientError {
        ClientError::Unreachable {
            server: self.server.clone(),
            port: self.config.port,
            within,
            reason: reason.to_owned(),
        }
    }
}

/// Counts a waiting request as long as it lives.
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

/// Different in each process and each time; not a secret.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
