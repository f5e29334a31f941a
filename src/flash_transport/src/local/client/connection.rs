//! A connection to a local server, and the task on the IO thread that carries its requests.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;
use tokio::sync::{oneshot, watch, Notify};

use super::error::{describe, ExchangeError};
use super::outbox::Outbox;
use super::reader::Reader;
use crate::buffers::Buffer;
use crate::link::first_receiver::FirstReceiver;
use crate::link::wire::{Failure, ANSWER_ERROR, ANSWER_FIRST};
use crate::local::frame::{Header, CANCEL, NO_REQUEST, PREFACE};
use crate::local::socket;

pub(crate) struct Connection {
    pub(super) stream: UnixStream,
    /// Largest answer that is accepted.
    pub(super) answer_bytes: usize,
    outbox: Mutex<Outbox>,
    /// The holder of the lock reads for all requests.
    pub(super) reader: Arc<tokio::sync::Mutex<Reader>>,
    waiting: Mutex<HashMap<u32, Waiting>>,
    last_id: AtomicU32,
    /// Wakes the task in [`Connection::drive`].
    pub(super) work: Notify,
    /// Why the connection ended.
    over: watch::Sender<Option<String>>,
}

struct Waiting {
    reply: oneshot::Sender<Result<Buffer, ExchangeError>>,
    /// Whether the server may have received some of the request.
    is_begun: bool,
    /// Of a request that asks for first actions.
    first: Option<FirstReceiver>,
}

impl Connection {
    /// Connect to the socket at `path`. The caller then runs [`Connection::drive`].
    pub fn open(path: &str, answer_bytes: usize) -> io::Result<Arc<Self>> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A server that does not accept connections must not block the IO thread.
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)?;
        let stream = UnixStream::from(socket);
        socket::set_up(&stream);
        let mut outbox = Outbox::default();
        outbox.push(None, Bytes::from_static(PREFACE));
        Ok(Arc::new(Self {
            stream,
            answer_bytes,
            outbox: Mutex::new(outbox),
            reader: Arc::default(),
            waiting: Mutex::default(),
            last_id: AtomicU32::new(0),
            work: Notify::new(),
            over: watch::Sender::new(None),
        }))
    }

    pub fn is_up(&self) -> bool {
        self.over.borrow().is_none()
    }

    /// Wait until the connection has ended, and return why. An idle connection notices its end only
    /// when the next request is sent.
    pub async fn lost(&self) -> String {
        let mut over = self.over.subscribe();
        let ended = over.wait_for(Option::is_some).await;
        ended.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    /// End the connection. Its requests fail.
    pub fn end(&self, why: &str) {
        self.over.send_if_modified(|over| {
            let is_first = over.is_none();
            over.get_or_insert_with(|| why.to_owned());
            is_first
        });
        let _ = self.stream.shutdown(Shutdown::Both);
        let why = self.over.borrow().clone().unwrap_or_default();
        for (_, waiting) in self.waiting().drain() {
            // Fails if the caller has left.
            let _ = waiting.reply.send(Err(match waiting.is_begun {
                true => ExchangeError::Lost(why.clone()),
                false => ExchangeError::NotSent(why.clone()),
            }));
        }
        self.work.notify_one();
    }

    /// Send a request, first byte included, and return its whole answer. `arrived` is called when
    /// the kernel has accepted all of it, `first` gets the first actions. Dropping the future
    /// cancels the request at the server.
    pub async fn exchange(
        self: &Arc<Self>,
        pieces: &[Bytes],
        arrived: Option<&(dyn Fn() + Sync)>,
        first: Option<&FirstReceiver>,
    ) -> Result<Buffer, ExchangeError> {
        let id = self.new_id();
        let Some(header) = Header::of(id, pieces.iter().map(Bytes::len).sum()) else {
            return Err(ExchangeError::TooLarge);
        };
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting {
            reply,
            is_begun: false,
            first: first.cloned(),
        };
        self.waiting().insert(id, waiting);
        let mut asked = Asked {
            connection: self,
            id,
            is_over: false,
        };
        let sent = {
            let mut outbox = self.outbox();
            outbox.push(Some(id), Bytes::copy_from_slice(&header.bytes()));
            for piece in pieces {
                outbox.push(None, piece.clone());
            }
            outbox.tell_when_sent()
        };
        if !self.is_up() {
            // The connection ended before this request was registered.
            self.end("");
        }
        self.work.notify_one();
        let mut answer = std::pin::pin!(answer);
        if let Some(arrived) = arrived {
            tokio::select! {
                biased;
                answer = &mut answer => return asked.over(answer),
                Ok(()) = sent => arrived(),
            }
        }
        asked.over(answer.await)
    }

    /// Carry requests until the connection ends.
    pub async fn drive(self: Arc<Self>) {
        while self.is_up() {
            self.work.notified().await;
            if let Err(error) = self.carry().await {
                self.end(&describe(&error));
            }
        }
    }

    /// Carry the present requests. Only meanwhile is the descriptor watched, so that an answer that
    /// another thread reads does not wake this one.
    async fn carry(&self) -> io::Result<()> {
        if !self.has_work() {
            return Ok(());
        }
        let mut reader = self.reader.lock().await;
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: the descriptor belongs to `self.stream`, which stays open until this function
        // returns.
        let watched = unsafe { AsyncFd::register_with_interest(self.stream.as_fd(), interest)? };
        loop {
            let flushed = self.flush();
            // A server that has closed the connection may have sent the reason.
            while let Some((id, answer)) = reader.next(&self.stream, self.answer_bytes)? {
                self.dispatch(id, answer)?;
            }
            let is_sent = flushed?;
            if !self.has_work() || !self.is_up() {
                return Ok(());
            }
            tokio::select! {
                ready = watched.readable() => ready?.clear_ready(),
                ready = watched.writable(), if !is_sent => ready?.clear_ready(),
                () = self.work.notified() => {}
            }
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.waiting().is_empty() || !self.outbox().is_empty()
    }

    /// Send what the kernel accepts; returns whether that is everything.
    pub(super) fn flush(&self) -> io::Result<bool> {
        let mut outbox = self.outbox();
        outbox.send(&self.stream, |id| {
            if let Some(waiting) = self.waiting().get_mut(&id) {
                waiting.is_begun = true;
            }
        })
    }

    /// Deliver an answer to its request.
    pub(super) fn dispatch(
        &self,
        id: u32,
        answer: Result<Buffer, ExchangeError>,
    ) -> io::Result<()> {
        if id == NO_REQUEST {
            return Err(last_words(answer));
        }
        let first = self
            .waiting()
            .get(&id)
            .and_then(|waiting| waiting.first.clone());
        let Some(answer) = after_first(answer, first.as_ref()) else {
            return Ok(());
        };
        if let Some(waiting) = self.waiting().remove(&id) {
            let _ = waiting.reply.send(answer);
        }
        Ok(())
    }

    fn cancel(&self, id: u32) {
        if self.waiting().remove(&id).is_none() || !self.is_up() {
            return;
        }
        self.outbox().push(None, cancel_frame(id));
        self.work.notify_one();
    }

    pub(super) fn new_id(&self) -> u32 {
        // `NO_REQUEST` is never the id of a request.
        self.last_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| {
                Some((id + 1) % NO_REQUEST)
            })
            .unwrap_or_default()
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u32, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut connection = formatter.debug_struct("Connection");
        connection.field("stream", &self.stream).finish()
    }
}

/// The whole answer, or why the message of a server is none; `None` if it held the first actions,
/// which `first` has then.
pub(super) fn after_first(
    message: Result<Buffer, ExchangeError>,
    first: Option<&FirstReceiver>,
) -> Option<Result<Buffer, ExchangeError>> {
    match (message, first) {
        (Ok(message), Some(first)) if message.first() == Some(&ANSWER_FIRST) => {
            let received = first.receive(message[1..].to_vec().into());
            received
                .err()
                .map(|problem| Err(ExchangeError::Bad(problem)))
        }
        (message, _) => Some(message),
    }
}

/// A request under way.
struct Asked<'a> {
    connection: &'a Connection,
    id: u32,
    is_over: bool,
}

impl Asked<'_> {
    fn over(
        &mut self,
        answer: Result<Result<Buffer, ExchangeError>, oneshot::error::RecvError>,
    ) -> Result<Buffer, ExchangeError> {
        self.is_over = true;
        answer.unwrap_or_else(|_| Err(ExchangeError::Lost("this client is closed".to_owned())))
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.connection.cancel(self.id);
        }
    }
}

pub(super) fn cancel_frame(id: u32) -> Bytes {
    let header = Header { length: 1, id };
    Bytes::from([&header.bytes()[..], &[CANCEL]].concat())
}

/// The server's error before it closed the connection.
fn last_words(answer: Result<Buffer, ExchangeError>) -> io::Error {
    let failure = answer
        .ok()
        .filter(|answer| answer.first() == Some(&ANSWER_ERROR));
    let failure = failure.and_then(|answer| Failure::decode(&answer[1..]).ok());
    let message = failure.map_or_else(String::new, |failure| failure.message);
    io::Error::other(format!("the server closed it: {message}"))
}
