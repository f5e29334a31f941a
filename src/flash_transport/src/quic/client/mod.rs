//! The client: any number of threads send requests through one IO thread.

mod carrier;
mod client_socket;
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

use super::settings::{LinkSettings, SocketBuffers};
use crate::congestion::LinkEstimate;
use crate::link::first_receiver::FirstReceiver;
use crate::link::io_thread;

pub use config::ClientConfig;
pub use dial::RepairCounts;
pub use error::ClientError;
use here::{Here, Question};
use job::{Job, Request};
use known::Known;
pub use lines::{Lines, Progress, RequestId};
use link::Links;
pub use link::Standing;
pub use message::{Message, DEADLINE_KEY};
pub use pending::Pending;
use reply::Reply;
pub use reply::{Answer, Interest, Mail, Mailbox, Outcome, Ticket};
use turn::Turns;

/// A client of one server. It connects for the first request, and again after a loss.
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

    /// Whether this is the copy of a client in a forked process, which cannot be used.
    pub fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// Begin to connect. The empty answer comes when the server is known to be the trusted one; the
    /// next request learns whether the server accepts the api key.
    pub fn connect(&self, timeout: Duration) -> Pending {
        self.request(Message::none(), Some(timeout))
    }

    /// Begin to connect and to wait for the [`metadata`](Self::metadata). The answer is empty.
    pub fn meet(&self, timeout: Duration) -> Pending {
        self.request(Message::hello(), Some(timeout))
    }

    /// Begin a request, at the latest when its outcome is waited for. `message` starts with the
    /// kind, the answer with [`crate::link::wire::ANSWER_OK`].
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

    /// Begin a request whose outcome goes to the [`mailbox`](Self::mailbox). It supersedes older
    /// ones of `session` that were begun like this, see [`Lines`]. Dropping the result cancels the
    /// request. First actions of a [`Message::asking_first`] go to the mailbox, too.
    pub fn submit(
        &self,
        message: Message,
        timeout: Option<Duration>,
        session: String,
        ticket: Ticket,
    ) -> Result<Interest, ClientError> {
        let closed = || ClientError::Closed {
            server: self.server.clone(),
        };
        let (reply, interest, abandoned) =
            Reply::to_mailbox(&self.server, &self.mailbox, ticket).ok_or_else(closed)?;
        let asked = Instant::now();
        let message = match message.first_steps() {
            Some(steps) => {
                let take = self.mailbox.first_slot(ticket).ok_or_else(closed)?;
                message.with_first(FirstReceiver::new(Some(steps), asked, take))
            }
            None => message,
        };
        self.ask(Request {
            message,
            timeout,
            asked,
            line: Some(session),
            reply,
            abandoned,
        });
        Ok(interest)
    }

    /// The outcomes of submitted requests.
    pub fn mailbox(&self) -> Arc<Mailbox> {
        self.mailbox.clone()
    }

    /// Whether the server reads [`DEADLINE_KEY`], by its latest metadata.
    pub fn takes_deadlines(&self) -> bool {
        self.known().takes_deadlines
    }

    /// Whether the server may send first actions ahead, by its latest metadata.
    pub fn gives_first_actions(&self) -> bool {
        self.known().gives_first_actions
    }

    /// Whether the server reads images as JPEG, by its latest metadata; None until it has sent some.
    pub fn reads_jpeg(&self) -> Option<bool> {
        self.known().reads_jpeg
    }

    /// What is known of the path of the current connection; `None` without one, and on a unix socket.
    pub fn link_estimate(&self) -> Option<LinkEstimate> {
        self.links.current()?.estimate()
    }

    /// The metadata of the current or last connection, as msgpack; None until its hello is
    /// answered.
    pub fn metadata(&self) -> Option<Bytes> {
        self.known().metadata
    }

    /// The link settings that were asked for.
    pub fn link(&self) -> &LinkSettings {
        &self.link
    }

    /// What the repair of lost packets came to.
    pub fn repairs(&self) -> &RepairCounts {
        self.links.repairs()
    }

    /// The buffers of the last connection's socket.
    pub fn socket_buffers(&self) -> Option<SocketBuffers> {
        self.known().buffers
    }

    /// The client's standing and its number: when it is no longer the one with the number `known`,
    /// after `within`, or after a [`nudge`](Self::nudge).
    pub fn standing(&self, known: u64, within: Duration) -> (u64, Standing) {
        self.links.standing(known, within)
    }

    /// End a wait of [`standing`](Self::standing), the next one if none is under way.
    pub fn nudge(&self) {
        self.links.nudge();
    }

    /// Close the connection and wait until that is done. Requests under way fail with
    /// [`ClientError::Closed`].
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
            // Fails if the client is closed; then dropping `reply` tells the caller.
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
    // Ending the runtime drops the replies of requests under way, which tells their callers.
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
