//! What servers of every transport do: judge hellos, hand out requests, stop.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::accepted::AcceptedRequests;
use super::admission::network_of;
use super::agreement;
use super::counters::Counters;
use super::events::{ClientEventKind, ClientEvents};
use super::hello::Hello;
use super::keys::{ApiKey, ApiKeys};
use super::limits::{Budget, ServerLimits};
use super::queue::{Next, Queue};
use super::refused::{Delayed, SharedRefusals, Turn};
use super::request::Request;
use super::wire::{ErrorCode, Failure, ANSWER_OK};
use crate::text::shown;

pub const SHUTTING_DOWN: &str = "the server shuts down";
pub const WARMING_UP: &str = "the server warms up";
pub const HELLO_SAID: &str = "this connection has said hello already";
const KEY_WANTED: &str = "this server wants an api key";
const KEY_UNKNOWN: &str = "this api key is not known here";
const TOO_MANY_AT_ONCE: &str =
    "this address gave wrong api keys, its next hellos are judged a few at a time; try again later";

pub struct ServerCore {
    pub queue: Queue<Request>,
    pub counters: Counters,
    pub events: ClientEvents,
    pub limits: ServerLimits,
    pub budget: Arc<Budget>,
    pub accepted: Arc<AcceptedRequests>,
    keys: ApiKeys,
    /// `None` while the policy loads.
    metadata_answer: watch::Sender<Option<Bytes>>,
    refused: Mutex<SharedRefusals>,
    /// By their names.
    connected: Mutex<HashMap<Arc<str>, ConnectedClient>>,
}

/// A client whose hello was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectedClient {
    pub session: Arc<str>,
    /// Name and version of its software, as its hello gives them, escaped; empty if it gives none.
    pub software: String,
    /// The place of its key among those that the server accepts; 0 if it wants none.
    pub key: usize,
}

/// The sender of a hello.
#[derive(Debug, Clone)]
pub struct PeerName {
    /// `ip:port#connection` or `pid=…,uid=…#connection`.
    pub name: Arc<str>,
    /// The key for counting refusals: the part of the name that a client cannot change at will.
    pub address: Arc<str>,
}

impl PeerName {
    /// The sender at an IP address, with the number of its connection.
    pub fn of_socket(address: SocketAddr, number: u64) -> Self {
        Self {
            name: format!("{address}#{number}").into(),
            address: match network_of(address.ip()) {
                IpAddr::V4(address) => address.to_string().into(),
                IpAddr::V6(network) => format!("{network}/64").into(),
            },
        }
    }
}

/// The verdict on a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelloOutcome {
    /// Good: answer with `answer`; the client's requests belong to `session`.
    Welcome {
        session: Arc<str>,
        answer: Bytes,
        /// Whether the client reads repair.
        reads_repair: bool,
    },
    /// Good, but the server is not ready.
    NotReady(Failure),
    /// Not a valid hello: answer with this. Another may follow.
    Malformed(Failure),
    /// Wrong key: answer with this and close the connection, so that no second key can be tried
    /// over it.
    Refused(Failure),
}

impl ServerCore {
    pub fn new(
        metadata: Option<&[u8]>,
        api_keys: &[ApiKey],
        limits: ServerLimits,
    ) -> std::io::Result<Self> {
        let keys = ApiKeys::new(api_keys)
            .map_err(|_| std::io::Error::other("the system gives no random numbers"))?;
        Ok(Self {
            queue: Queue::new(),
            counters: Counters::default(),
            events: ClientEvents::default(),
            budget: Budget::new(limits.total_bytes),
            limits,
            accepted: Arc::default(),
            keys,
            metadata_answer: watch::Sender::new(metadata.map(metadata_answer)),
            refused: Mutex::default(),
            connected: Mutex::default(),
        })
    }

    /// Answer hellos with this msgpack map from now on: the policy is loaded.
    pub fn set_metadata(&self, metadata: &[u8]) {
        self.metadata_answer
            .send_replace(Some(metadata_answer(metadata)));
    }

    /// The answer to hellos, first byte included, now and when it changes.
    pub fn metadata_answer(&self) -> watch::Receiver<Option<Bytes>> {
        self.metadata_answer.subscribe()
    }

    /// Wait for a request. Any number of threads may call it.
    pub fn next(&self, within: Duration) -> Next<Request> {
        self.queue.next(within)
    }

    /// How long a hello of `peer` waits before it is judged, with a guard to keep until then: zero,
    /// unless many of its address were refused. The error is the answer to one of too many that
    /// wait already.
    pub fn hello_delay(
        &self,
        peer: &PeerName,
        now: Instant,
    ) -> Result<(Duration, Option<Delayed>), Failure> {
        let refused = lock(&self.refused).clone();
        match refused.turn(&peer.address, now, self.limits.hello_delay) {
            Turn::Now => Ok((Duration::ZERO, None)),
            Turn::Later(delay, guard) => Ok((delay, Some(guard))),
            Turn::Never => Err(self.refuse(ErrorCode::NotReady, TOO_MANY_AT_ONCE, peer)),
        }
    }

    /// Count wrong keys together with `other`: trying them on several ports and sockets of a process
    /// is no faster than on one.
    pub fn share_refusals(&self, other: &ServerCore) {
        let shared = lock(&other.refused).clone();
        *lock(&self.refused) = shared;
    }

    /// Judge a hello, first byte excluded, and count the result.
    pub fn judge_hello(&self, body: &[u8], peer: &PeerName, now: Instant) -> HelloOutcome {
        let hello = match Hello::decode(body) {
            Ok(hello) => hello,
            Err(error) => {
                self.counters.requests_refused.add_one();
                let failure = self.refuse(ErrorCode::BadRequest, &error.to_string(), peer);
                return HelloOutcome::Malformed(failure);
            }
        };
        let key = match self.judge_key(hello.api_key.as_ref(), peer, now) {
            Ok(key) => key,
            Err(failure) => return HelloOutcome::Refused(failure),
        };
        let not_ready = |message| {
            self.counters.requests_refused.add_one();
            HelloOutcome::NotReady(Failure::new(ErrorCode::NotReady, message))
        };
        if self.accepted.has_ended() {
            return not_ready(SHUTTING_DOWN);
        }
        let Some(answer) = self.metadata_answer.borrow().clone() else {
            return not_ready(WARMING_UP);
        };
        let reads_repair = hello.repair.as_deref() == Some(agreement::CODE);
        let session: Arc<str> = match hello.session {
            Some(session) => session.into(),
            None => peer.name.clone(),
        };
        let client = ConnectedClient {
            session: session.clone(),
            software: software(hello.client, hello.version),
            key,
        };
        self.note_connected(peer, client, &session);
        HelloOutcome::Welcome {
            session,
            answer,
            reads_repair,
        }
    }

    /// The place of a client's key among those that are accepted; the error refuses the client, and
    /// is counted.
    pub fn judge_key(
        &self,
        key: Option<&ApiKey>,
        peer: &PeerName,
        now: Instant,
    ) -> Result<usize, Failure> {
        if let Some(place) = self.keys.place(key) {
            return Ok(place);
        }
        self.counters.clients_unauthenticated.add_one();
        let message = match key {
            None => KEY_WANTED,
            Some(_) => KEY_UNKNOWN,
        };
        lock(&self.refused).note(&peer.address, now);
        Err(self.refuse(ErrorCode::Unauthenticated, message, peer))
    }

    /// Note that a client was let in.
    pub fn note_connected(&self, peer: &PeerName, client: ConnectedClient, session: &str) {
        lock(&self.connected).insert(peer.name.clone(), client);
        self.events
            .note(ClientEventKind::Connected, &peer.name, session);
    }

    /// Note that a client whose hello was accepted has left.
    pub fn note_disconnected(&self, peer: &PeerName, session: &str) {
        lock(&self.connected).remove(&peer.name);
        self.events
            .note(ClientEventKind::Disconnected, &peer.name, session);
    }

    /// The clients that are connected, by their names.
    pub fn connected(&self) -> Vec<(Arc<str>, ConnectedClient)> {
        let connected = lock(&self.connected);
        connected
            .iter()
            .map(|(name, client)| (name.clone(), client.clone()))
            .collect()
    }

    /// The place of a connected client's key; None if no such client is connected.
    pub fn key_of(&self, name: &str) -> Option<usize> {
        lock(&self.connected).get(name).map(|client| client.key)
    }

    /// Note that a client sent no hello in time.
    pub fn note_silent(&self, peer: &PeerName) {
        self.counters.clients_unauthenticated.add_one();
        self.events
            .note(ClientEventKind::Refused, &peer.address, "no hello in time");
    }

    /// Close the queue, and answer the requests in it `not_ready`.
    pub fn close_queue(&self) {
        self.accepted.end();
        for request in self.queue.close() {
            let _ = request.reply.fail(ErrorCode::NotReady, SHUTTING_DOWN);
        }
    }

    fn refuse(&self, code: ErrorCode, message: &str, peer: &PeerName) -> Failure {
        self.counters.hellos_refused.add_one();
        self.events
            .note(ClientEventKind::Refused, &peer.address, message);
        Failure::new(code, message)
    }
}

fn software(client: Option<String>, version: Option<String>) -> String {
    let named: Vec<String> = [client, version].into_iter().flatten().collect();
    shown(&named.join(" "))
}

/// An answer that holds the metadata.
fn metadata_answer(metadata: &[u8]) -> Bytes {
    [&[ANSWER_OK], metadata].concat().into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(keys: &[&str], metadata: Option<&[u8]>) -> ServerCore {
        let keys: Vec<ApiKey> = keys.iter().map(|key| ApiKey::new(*key).unwrap()).collect();
        ServerCore::new(metadata, &keys, ServerLimits::default()).unwrap()
    }

    fn peer() -> PeerName {
        PeerName {
            name: "10.0.0.7:4433#1".into(),
            address: "10.0.0.7".into(),
        }
    }

    fn hello(key: Option<&str>, session: Option<&str>) -> Vec<u8> {
        let hello = Hello {
            api_key: key.map(|key| ApiKey::new(key).unwrap()),
            session: session.map(str::to_owned),
            ..Hello::default()
        };
        hello.encode().unwrap().split_off(1)
    }

    fn judge(core: &ServerCore, body: &[u8]) -> HelloOutcome {
        core.judge_hello(body, &peer(), Instant::now())
    }

    fn code(outcome: HelloOutcome) -> String {
        match outcome {
            HelloOutcome::Refused(failure) => format!("refused {}", failure.code),
            HelloOutcome::Malformed(failure) => failure.code,
            HelloOutcome::NotReady(failure) => failure.code,
            HelloOutcome::Welcome { session, .. } => session.to_string(),
        }
    }

    #[test]
    fn a_hello_with_a_right_key_is_welcome_and_names_the_session() {
        let core = core(&["right"], Some(&[0x80]));
        let outcome = judge(&core, &hello(Some("right"), Some("arm-7")));
        let answer = Bytes::from_static(&[ANSWER_OK, 0x80]);
        let session = "arm-7".into();
        let reads_repair = false;
        let expected = HelloOutcome::Welcome {
            session,
            answer,
            reads_repair,
        };
        assert_eq!(outcome, expected);
        assert_eq!(
            code(judge(&core, &hello(Some("right"), None))),
            "10.0.0.7:4433#1"
        );
    }

    #[test]
    fn a_client_is_listed_with_its_software_until_it_leaves() {
        let core = core(&[], Some(&[0x80]));
        let hello = Hello {
            client: Some("arm\n".into()),
            version: Some("1.2".into()),
            session: Some("arm-7".into()),
            ..Hello::default()
        };
        judge(&core, &hello.encode().unwrap()[1..]);
        let client = ConnectedClient {
            session: "arm-7".into(),
            software: "arm\\n 1.2".into(),
            key: 0,
        };
        assert_eq!(core.connected(), [(peer().name, client)]);
        core.note_disconnected(&peer(), "arm-7");
        assert_eq!(core.connected(), []);
    }

    #[test]
    fn wrong_keys_and_malformed_hellos_are_refused_counted_and_told() {
        let core = core(&["right"], Some(&[0x80]));
        assert_eq!(
            code(judge(&core, &hello(None, None))),
            "refused unauthenticated"
        );
        assert_eq!(
            code(judge(&core, &hello(Some("wrong"), None))),
            "refused unauthenticated"
        );
        assert_eq!(
            code(judge(&core, &hello(Some("wrong"), None))),
            "refused unauthenticated"
        );
        assert_eq!(code(judge(&core, b"\x90")), "bad_request");
        let events = core.events.next(Duration::ZERO).unwrap();
        let counts: Vec<_> = events.iter().map(|event| event.count).collect();
        assert_eq!(counts, [1, 2, 1]);
        assert_eq!(core.counters.hellos_refused.value(), 4);
        for _ in 0..8 {
            judge(&core, &hello(Some("wrong"), None));
        }
        let delay = |core: &ServerCore| core.hello_delay(&peer(), Instant::now()).unwrap().0;
        assert!(delay(&core) > Duration::ZERO);
        let (port, socket) = (self::core(&["right"], None), self::core(&["right"], None));
        assert_eq!(delay(&port), Duration::ZERO);
        port.share_refusals(&core);
        assert!(delay(&port) > Duration::ZERO);
        assert_eq!(delay(&socket), Duration::ZERO);
    }

    #[test]
    fn of_many_hellos_at_once_from_an_address_with_wrong_keys_a_few_are_judged() {
        let core = core(&["right"], Some(&[0x80]));
        for _ in 0..20 {
            judge(&core, &hello(Some("wrong"), None));
        }
        let delay = || core.hello_delay(&peer(), Instant::now());
        let delayed: Vec<_> = std::iter::from_fn(|| delay().ok()).collect();
        assert_eq!(delayed.len(), 4);
        assert_eq!(delay().unwrap_err().code, "not_ready");
    }

    #[test]
    fn a_server_without_a_policy_or_at_its_end_is_not_ready() {
        let core = core(&[], None);
        assert_eq!(code(judge(&core, &hello(None, Some("a")))), "not_ready");
        core.set_metadata(&[0x80]);
        assert_eq!(code(judge(&core, &hello(None, Some("a")))), "a");
        core.close_queue();
        assert_eq!(code(judge(&core, &hello(None, Some("a")))), "not_ready");
        assert_eq!(core.counters.hellos_refused.value(), 0);
    }
}
