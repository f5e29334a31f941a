//! The client: any number of threads ask, one IO thread carries it.

mod carrier;
mod config;
mod dial;
mod error;
mod exchange;
mod here;
mod introduction;
mod job;
mod known;
mod lines;
mod link;
#[cfg(unix)]
mod local_link;
mod message;
mod pending;
mod reply;
mod turn;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::io_thread;
use super::settings::{LinkSettings, SocketBuffers};

pub use config::ClientConfig;
pub use error::ClientError;
use here::{Here, Question};
use job::{Job, Request};
use known::Known;
pub use lines::{Lines, Progress, RequestId};
use link::Links;
pub use message::{Message, DEADLINE_KEY};
pub use pending::Pending;
use reply::Reply;
pub use reply::{Answer, Interest, Mail, Mailbox, Outcome, Ticket};
use turn::Turns;

/// A client of one server. It connects when it is first asked, and again after a loss.
#[derive(Debug)]
pub struct Client {
    server: String,
    jobs: mpsc::UnboundedSender<Job>,
    links: Arc<Links>,
    link: LinkSettings,
    known: Arc<Mutex<Known>>,
    mailbox: Arc<Mailbox>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Threads do not survive a fork; a forked client would wait for ever.
    process: u32,
}

impl Client {
    pub fn new(config: ClientConfig) -> std::io::Result<Self> {
        let server = config.server();
        let link = config.link.clone();
        let (jobs, incoming) = mpsc::unbounded_channel();
        let known = Arc::new(Mutex::new(Known::default()));
        let links = Links::new(config, known.clone());
        let served = links.clone();
        let thread = io_thread::spawn("flash-client", move || serve(served, incoming))?;
        Ok(Self {
            server,
            jobs,
            links,
            link,
            known,
            mailbox: Arc::new(Mailbox::new()),
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

    /// Begin to connect. The answer is empty, and comes when the server is known to be the trusted one; whether it lets this
    /// client in, the next request is told.
    pub fn connect(&self, timeout: Duration) -> Pending {
        self.request(Message::none(), Some(timeout))
    }

    /// Begin to connect, and to learn the [`metadata`](Self::metadata). The answer is empty.
    pub fn meet(&self, timeout: Duration) -> Pending {
        self.request(Message::hello(), Some(timeout))
    }

    /// Begin a request, at the latest when its outcome is waited for: `message` starts with the byte of its kind, the answer with [`crate::link::wire::ANSWER_OK`].
    pub fn request(&self, message: Message, timeout: Option<Duration>) -> Pending {
        let question = Question {
            message,
            timeout,
            asked: Instant::now(),
            jobs: self.jobs.clone(),
            server: self.server.clone(),
        };
        if self.is_forked() {
            return Pending::over(&self.server);
        }
        match Here::begin(&self.links, question) {
            Ok(here) => Pending::here(here),
            Err(question) => Pending::elsewhere(question.ask()),
        }
    }

    /// Begin a request whose outcome comes into the [`mailbox`](Self::mailbox). Older ones of `session` that were begun like
    /// this give way to it, see [`Lines`]. Dropping what is returned cancels the request.
    pub fn submit(
        &self,
        message: Message,
        timeout: Option<Duration>,
        session: String,
        ticket: Ticket,
    ) -> Result<Interest, ClientError> {
        let Some((reply, interest, abandoned)) =
            Reply::to_mailbox(&self.server, &self.mailbox, ticket)
        else {
            return Err(ClientError::Closed {
                server: self.server.clone(),
            });
        };
        self.ask(Request {
            message,
            timeout,
            asked: Instant::now(),
            line: Some(session),
            reply,
            abandoned,
        });
        Ok(interest)
    }

    /// Where the outcomes of submitted requests come.
    pub fn mailbox(&self) -> Arc<Mailbox> {
        self.mailbox.clone()
    }

    /// Whether the server reads [`DEADLINE_KEY`], as far as it has ever said.
    pub fn takes_deadlines(&self) -> bool {
        self.known().takes_deadlines
    }

    /// The metadata of the server that was last connected to, as msgpack; None until it has answered the hello.
    pub fn metadata(&self) -> Option<Bytes> {
        self.known().metadata
    }

    /// How the link was asked to be set.
    pub fn link(&self) -> &LinkSettings {
        &self.link
    }

    /// The buffers of the last connection's socket.
    pub fn socket_buffers(&self) -> Option<SocketBuffers> {
        self.known().buffers
    }

    /// Close the connection and wait until that is done. What is under way fails with [`ClientError::Closed`].
    pub fn close(&self) {
        self.mailbox.shut();
        let _ = self.jobs.send(Job::Close);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            if !self.is_forked() {
                let _ = thread.join();
            }
        }
    }

    fn ask(&self, request: Request) {
        if !self.is_forked() {
            // Fails when the client is closed; then `reply` is dropped and the asker told so.
            let _ = self.jobs.send(Job::Request(request));
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

async fn serve(links: Arc<Links>, mut incoming: mpsc::UnboundedReceiver<Job>) {
    let dialer = tokio::spawn(links.clone().keep());
    let turns = Turns::default();
    while let Some(Job::Request(mut request)) = incoming.recv().await {
        let links = links.clone();
        let (turn, gave_way) = request.line.take().map(|line| turns.enter(line)).unzip();
        tokio::spawn(async move {
            let Request {
                message,
                timeout,
                asked,
                ..
            } = request;
            let outcome = tokio::select! {
                biased;
                outcome = links.run(&message, timeout, asked, turn.as_ref()) => outcome,
                _ = request.abandoned => return,
                Some(Ok(())) = resolved(gave_way) => Err(ClientError::Superseded {
                    message: GAVE_WAY.to_owned(),
                }),
            };
            request.reply.send(outcome);
        });
    }
    // Whoever is still asking sees its reply dropped when this runtime ends.
    dialer.abort();
    links.close().await;
}

async fn resolved<F: Future>(future: Option<F>) -> Option<F::Output> {
    match future {
        Some(future) => Some(future.await),
        None => None,
    }
}

const GAVE_WAY: &str =
    "a newer observation of the session took this one's place before the server had all of it";
