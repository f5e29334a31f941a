//! Forwards requests from one end to the other. Which end is which transport does not matter here.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use flash_transport::link::first_receiver::FirstReceiver;
use flash_transport::link::queue::Next;
use flash_transport::link::request::Request;
use flash_transport::link::wire::{ErrorCode, Failure};
use flash_transport::local::server::LocalServer;
use flash_transport::quic::client::{Client, ClientConfig, ClientError, Message, Pending};
use flash_transport::quic::server::Server;

/// How often to check whether the client has left, or the program is to stop.
const GLANCE: Duration = Duration::from_millis(20);
/// A session without requests for this long loses its connection; its next request makes a new one.
const IDLE_SESSION: Duration = Duration::from_secs(60);
/// Between attempts to reach a policy that does not listen yet.
const FIRST_CONTACT: Duration = Duration::from_millis(200);
/// The session of the bridge's own connection, which only asks for the metadata.
const OWN_SESSION: &str = "bridge";

/// The end that receives requests.
pub trait Downstream: Sync {
    fn next(&self, within: Duration) -> Next<Request>;
    fn set_metadata(&self, metadata: &[u8]);
}

impl Downstream for Server {
    fn next(&self, within: Duration) -> Next<Request> {
        Server::next(self, within)
    }
    fn set_metadata(&self, metadata: &[u8]) {
        Server::set_metadata(self, metadata);
    }
}

impl Downstream for LocalServer {
    fn next(&self, within: Duration) -> Next<Request> {
        LocalServer::next(self, within)
    }
    fn set_metadata(&self, metadata: &[u8]) {
        LocalServer::set_metadata(self, metadata);
    }
}

/// The end that answers: one connection per session, so that a newer observation replaces only
/// older ones of the same robot.
pub struct Bridge {
    upstream: ClientConfig,
    sessions: Mutex<HashMap<String, Session>>,
    metadata: Mutex<Vec<u8>>,
}

struct Session {
    client: Arc<Client>,
    used: Instant,
}

impl Bridge {
    pub fn new(upstream: ClientConfig) -> Self {
        Self {
            upstream,
            sessions: Mutex::default(),
            metadata: Mutex::default(),
        }
    }

    /// Serve until `stopped` receives.
    pub fn run(&self, downstream: &impl Downstream, stopped: &Receiver<()>) {
        thread::scope(|scope| {
            let mut is_introduced = false;
            let mut last_contact: Option<Instant> = None;
            let mut told = HashSet::new();
            while stopped.try_recv().is_err() {
                // Clients get `not_ready` until there is metadata.
                if !is_introduced && last_contact.is_none_or(|last| last.elapsed() > FIRST_CONTACT)
                {
                    match self.introduce(downstream) {
                        Ok(()) => is_introduced = true,
                        // Local programs only see `not_ready`; tell the operator the cause, once.
                        Err(failure) => {
                            if told.insert(failure.message.clone()) {
                                let _ = writeln!(io::stderr(), "warning: {}", failure.message);
                            }
                        }
                    }
                    last_contact = Some(Instant::now());
                }
                match downstream.next(GLANCE) {
                    Next::Request(request) => {
                        scope.spawn(move || self.carry(downstream, request));
                    }
                    Next::Nothing => {}
                    Next::Closed => return,
                }
            }
        });
    }

    /// Pass the policy's metadata on, if it can be had.
    fn introduce(&self, downstream: &impl Downstream) -> Result<(), Failure> {
        let client = self.client(OWN_SESSION)?;
        client.meet(FIRST_CONTACT).wait_long().map_err(failure_of)?;
        self.hand_on_metadata(downstream, &client);
        Ok(())
    }

    fn carry(&self, downstream: &impl Downstream, request: Request) {
        let request = Arc::new(request);
        let answer = self.client(&request.session).and_then(|client| {
            let message = [&[request.kind.byte()], request.body.as_slice()].concat();
            let asked = request.clone();
            // Whether the client has asked for them, the policy knows.
            let first = FirstReceiver::new(None, Instant::now(), move |map| {
                // Fails if the request is answered already.
                let _ = asked.reply.first_actions(map.as_slice().to_vec());
            });
            let message = Message::new(message).with_first(first);
            let answer = wait(&client.request(message, None), &request);
            // A restarted policy may have other metadata.
            self.hand_on_metadata(downstream, &client);
            answer
        });
        // Fails if the request is answered already; nothing else answers it.
        let _ = request
            .reply
            .answer(answer.unwrap_or_else(|failure| failure.encode()));
    }

    fn hand_on_metadata(&self, downstream: &impl Downstream, client: &Client) {
        let Some(metadata) = client.metadata() else {
            return;
        };
        let mut known = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != metadata[..] {
            *known = metadata.to_vec();
            downstream.set_metadata(&known);
        }
    }

    fn client(&self, name: &str) -> Result<Arc<Client>, Failure> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // A session with a request under way holds its client.
        sessions.retain(|_, session| {
            session.used.elapsed() < IDLE_SESSION || Arc::strong_count(&session.client) > 1
        });
        if let Some(session) = sessions.get_mut(name) {
            session.used = Instant::now();
            return Ok(session.client.clone());
        }
        if self.upstream.local_port != 0 {
            make_way(&mut sessions)?;
        }
        let mut config = self.upstream.clone();
        config.hello.client = Some("openpi-flash-transport".to_owned());
        config.hello.version = Some(env!("CARGO_PKG_VERSION").to_owned());
        config.hello.session = Some(name.to_owned());
        let client = Client::new(config).map_err(|error| {
            Failure::new(
                ErrorCode::Internal,
                format!("openpi-flash-transport: {error}"),
            )
        })?;
        let client = Arc::new(client);
        let session = Session {
            client: client.clone(),
            used: Instant::now(),
        };
        sessions.insert(name.to_owned(), session);
        Ok(client)
    }
}

/// A fixed port carries one connection: close that of an idle session.
fn make_way(sessions: &mut HashMap<String, Session>) -> Result<(), Failure> {
    let busy = |session: &Session| Arc::strong_count(&session.client) > 1;
    if let Some((name, _)) = sessions.iter().find(|(_, session)| busy(session)) {
        return Err(Failure::new(
            ErrorCode::NotReady,
            format!("openpi-flash-transport: its one port is in use by session {name:?}; --local-port is for one program"),
        ));
    }
    sessions.clear();
    Ok(())
}

/// The whole answer. The request is cancelled upstream, too, when its client no longer waits.
fn wait(pending: &Pending, request: &Request) -> Result<Vec<u8>, Failure> {
    while !request.reply.is_cancelled() {
        if let Some(outcome) = pending.wait(GLANCE) {
            return match outcome {
                Ok(answer) => Ok(answer.bytes.as_slice().to_vec()),
                Err(error) => Err(failure_of(error)),
            };
        }
    }
    Err(Failure::new(ErrorCode::Internal, "cancelled"))
}

fn failure_of(error: ClientError) -> Failure {
    match error {
        ClientError::Server(failure) => failure,
        ClientError::Superseded { message } => Failure::new(ErrorCode::Superseded, message),
        // The request was not executed.
        error @ (ClientError::Unreachable { .. }
        | ClientError::NoRelayedServer { .. }
        | ClientError::Closed { .. }) => Failure::new(ErrorCode::NotReady, error.to_string()),
        error => Failure::new(ErrorCode::Internal, error.to_string()),
    }
}
