//! The traffic of a robot: an observation up, actions down, one bidirectional stream each, both ended by FIN.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use quinn_proto::{Connection, ConnectionHandle, Dir, Event, StreamEvent, StreamId};

use crate::host::{App, Connections};
use crate::streams::Streams;

/// Three 224x224 camera images and the state.
pub const REQUEST_BYTES: usize = 451_800;
/// 50 steps of 32 float32 and the timing.
pub const ANSWER_BYTES: usize = 7_000;
/// A client's introduction, ...
const HELLO_BYTES: usize = 200;
/// ... and what a server of ours says about its policy. From 2 KB on, it would take a round trip more on a resumed session:
/// QUIC sends a client that has not shown its address three times what it has sent.
const METADATA_BYTES: usize = 1_500;

#[derive(Debug, Clone)]
pub struct Plan {
    /// From the start of one request to the start of the next; a late answer delays the next request.
    pub every: Duration,
    pub requests: usize,
    pub request_bytes: usize,
    /// Say hello in the client's first flight, if it remembers an earlier session.
    pub early_hello: bool,
    /// Whether both ends send probes behind their messages, as ours do.
    pub probes: bool,
}

impl Plan {
    pub fn new(every: Duration, requests: usize) -> Self {
        Self {
            every,
            requests,
            request_bytes: REQUEST_BYTES,
            early_hello: false,
            probes: true,
        }
    }
}

/// Start and answer of the hello and of each request, in the order of their starts.
pub type Log = Rc<RefCell<Vec<(Instant, Instant)>>>;

/// Says hello, and asks when that is answered; waits for each answer before it asks again.
pub struct RequestClient {
    plan: Plan,
    log: Log,
    connected: bool,
    said_hello: bool,
    next_at: Option<Instant>,
    asked: usize,
    /// The stream of the current request and its start.
    current: Option<(StreamId, Instant)>,
    streams: Streams,
}

impl RequestClient {
    pub fn new(plan: Plan, log: Log) -> Self {
        let streams = Streams::new(plan.probes);
        Self {
            plan,
            log,
            connected: false,
            said_hello: false,
            next_at: None,
            asked: 0,
            current: None,
            streams,
        }
    }

    fn ask(&mut self, now: Instant, handle: ConnectionHandle, connection: &mut Connection) {
        if self.current.is_some() {
            return;
        }
        if !self.said_hello {
            self.said_hello = true;
            self.current = Some((self.open(handle, connection, HELLO_BYTES), now));
            return;
        }
        let due = self.next_at.is_none_or(|at| at <= now);
        if !self.connected || self.asked == self.plan.requests || !due {
            return;
        }
        let id = self.open(handle, connection, self.plan.request_bytes);
        self.current = Some((id, now));
        self.asked += 1;
        self.next_at = Some(now + self.plan.every);
    }

    fn open(
        &mut self,
        handle: ConnectionHandle,
        connection: &mut Connection,
        bytes: usize,
    ) -> StreamId {
        let id = connection.streams().open(Dir::Bi).expect("a free stream");
        self.streams.send(handle, id, bytes);
        id
    }
}

impl App for RequestClient {
    fn drive(&mut self, now: Instant, connections: &mut Connections) {
        let Some((&handle, connection)) = connections.iter_mut().next() else {
            return;
        };
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => self.connected = true,
                Event::ConnectionLost { reason } => panic!("client lost its connection: {reason}"),
                Event::Stream(event) => self.streams.note(handle, event),
                _ => {}
            }
        }
        let finished = self.streams.read(handle, connection);
        if let Some((id, start)) = self.current.filter(|(id, _)| finished.contains(id)) {
            let is_hello = self.log.borrow().is_empty();
            let expected = if is_hello {
                METADATA_BYTES
            } else {
                ANSWER_BYTES
            };
            assert_eq!(self.streams.received(handle, id), expected);
            self.log.borrow_mut().push((start, now));
            self.current = None;
        }
        if self.connected || (self.plan.early_hello && connection.has_0rtt()) {
            self.ask(now, handle, connection);
        }
        self.streams.write(now, handle, connection);
    }

    fn next_wakeup(&self) -> Option<Instant> {
        let idle = self.connected && self.current.is_none() && self.asked < self.plan.requests;
        let next_request = self.next_at.filter(|_| idle);
        next_request
            .into_iter()
            .chain(self.streams.next_probe())
            .min()
    }
}

/// Answers each request as soon as it is complete.
pub struct AnswerServer {
    streams: Streams,
}

impl AnswerServer {
    pub fn new(probes: bool) -> Self {
        Self {
            streams: Streams::new(probes),
        }
    }
}

impl App for AnswerServer {
    fn drive(&mut self, now: Instant, connections: &mut Connections) {
        for (&handle, connection) in connections {
            while let Some(event) = connection.poll() {
                match event {
                    Event::ConnectionLost { reason } => {
                        panic!("server lost a connection: {reason}")
                    }
                    Event::Stream(event) => self.streams.note(handle, event),
                    _ => {}
                }
            }
            while let Some(id) = connection.streams().accept(Dir::Bi) {
                self.streams.note(handle, StreamEvent::Readable { id });
            }
            for id in self.streams.read(handle, connection) {
                let is_hello = self.streams.received(handle, id) == HELLO_BYTES;
                let answer = if is_hello {
                    METADATA_BYTES
                } else {
                    ANSWER_BYTES
                };
                self.streams.send(handle, id, answer);
            }
            self.streams.write(now, handle, connection);
        }
    }

    fn next_wakeup(&self) -> Option<Instant> {
        self.streams.next_probe()
    }
}
