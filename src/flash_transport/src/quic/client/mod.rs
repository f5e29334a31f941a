//! The client: any number of threads ask, one IO thread carries it.

mod dial;
mod error;
mod exchange;
mod link;

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::hello::Hello;
use super::io_thread;
use super::settings::{LinkSettings, SocketBuffers};
use crate::trust::ServerTrust;

pub use error::ClientError;
use link::Links;

#[derive(Debug, Clone)]
pub struct ClientConfig {
    pub host: String,
    pub port: u16,
    pub trust: ServerTrust,
    pub hello: Hello,
    /// For each attempt to connect, and for all of those that one request may wait for.
    pub connect_timeout: Duration,
    /// Largest answer that is taken.
    pub answer_bytes: usize,
    pub link: LinkSettings,
}

impl ClientConfig {
    pub fn new(host: impl Into<String>, port: u16, trust: ServerTrust) -> Self {
        Self {
            host: host.into(),
            port,
            trust,
            hello: Hello::default(),
            connect_timeout: Duration::from_secs(10),
            answer_bytes: 64 << 20,
            link: LinkSettings::default(),
        }
    }

    /// The server as the user named it.
    pub fn server(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A client of one server. It connects when it is first asked, and again after a loss.
#[derive(Debug)]
pub struct Client {
    server: String,
    jobs: mpsc::UnboundedSender<Job>,
    known: Arc<Mutex<Known>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Threads do not survive a fork; a forked client would wait for ever.
    process: u32,
}

/// What the last connection told.
#[derive(Debug, Default, Clone)]
struct Known {
    metadata: Option<Bytes>,
    buffers: Option<SocketBuffers>,
}

#[derive(Debug)]
enum Job {
    Request(Request),
    Close,
}

#[derive(Debug)]
struct Request {
    /// First byte included. Empty: only connect.
    message: Bytes,
    timeout: Option<Duration>,
    asked: Instant,
    reply: SyncSender<Result<Vec<u8>, ClientError>>,
    /// Resolves when the asker has left.
    abandoned: oneshot::Receiver<()>,
}

impl Client {
    pub fn new(config: ClientConfig) -> std::io::Result<Self> {
        let server = config.server();
        let (jobs, incoming) = mpsc::unbounded_channel();
        let known = Arc::new(Mutex::new(Known::default()));
        let links = Links::new(config, known.clone());
        let thread = io_thread::spawn("flash-client", move || serve(links, incoming))?;
        Ok(Self {
            server,
            jobs,
            known,
            thread: Mutex::new(Some(thread)),
            process: std::process::id(),
        })
    }

    /// The server as the user named it.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Whether this is the copy of a client that a forked process got; it can do nothing.
    pub fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// Begin to connect. The answer is empty.
    pub fn connect(&self, timeout: Duration) -> Pending {
        self.ask(Bytes::new(), Some(timeout))
    }

    /// Begin a request: `message` starts with the byte of its kind, the answer with [`super::wire::ANSWER_OK`].
    pub fn request(&self, message: Bytes, timeout: Option<Duration>) -> Pending {
        self.ask(message, timeout)
    }

    /// The metadata of the server that was last connected to, as msgpack.
    pub fn metadata(&self) -> Option<Bytes> {
        self.known().metadata
    }

    /// The buffers of the last connection's socket.
    pub fn socket_buffers(&self) -> Option<SocketBuffers> {
        self.known().buffers
    }

    /// Close the connection and wait until that is done. What is under way fails with [`ClientError::Closed`].
    pub fn close(&self) {
        let _ = self.jobs.send(Job::Close);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            if !self.is_forked() {
                let _ = thread.join();
            }
        }
    }

    fn ask(&self, message: Bytes, timeout: Option<Duration>) -> Pending {
        let (reply, replies) = std::sync::mpsc::sync_channel(1);
        let (wanted, abandoned) = oneshot::channel();
        let request = Request {
            message,
            timeout,
            asked: Instant::now(),
            reply,
            abandoned,
        };
        if !self.is_forked() {
            // Fails when the client is closed; then `reply` is dropped and the asker told so.
            let _ = self.jobs.send(Job::Request(request));
        }
        Pending {
            server: self.server.clone(),
            replies,
            _wanted: wanted,
        }
    }

    fn known(&self) -> Known {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

/// A request under way. Dropping it cancels the request.
#[derive(Debug)]
pub struct Pending {
    server: String,
    replies: Receiver<Result<Vec<u8>, ClientError>>,
    _wanted: oneshot::Sender<()>,
}

impl Pending {
    /// Wait up to `slice`; `None` when there is no answer yet. To be called until it is `Some`.
    pub fn wait(&self, slice: Duration) -> Option<Result<Vec<u8>, ClientError>> {
        match self.replies.recv_timeout(slice) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(ClientError::Closed {
                server: self.server.clone(),
            })),
        }
    }

    /// Wait to the end.
    pub fn wait_long(&self) -> Result<Vec<u8>, ClientError> {
        loop {
            if let Some(answer) = self.wait(Duration::from_secs(3600)) {
                return answer;
            }
        }
    }
}

async fn serve(links: Arc<Links>, mut incoming: mpsc::UnboundedReceiver<Job>) {
    let dialer = tokio::spawn(links.clone().keep());
    while let Some(Job::Request(mut request)) = incoming.recv().await {
        let links = links.clone();
        tokio::spawn(async move {
            let answer = tokio::select! {
                biased;
                answer = links.run(&request.message, request.timeout, request.asked) => answer,
                _ = &mut request.abandoned => return,
            };
            let _ = request.reply.send(answer);
        });
    }
    // Whoever is still asking sees its reply dropped when this runtime ends.
    dialer.abort();
    links.close().await;
}
