//! The traffic of a robot: an observation up, actions down, one bidirectional stream each, both ended by FIN.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use flash_transport::congestion::{self, LinkEstimate};
use quinn_proto::{Connection, ConnectionHandle, Dir, Event, StreamEvent, StreamId};

use crate::host::{App, Connections};
use crate::streams::{Recovery, Streams};

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
    /// What both ends do besides writing their messages.
    pub recovery: Recovery,
}

impl Plan {
    pub fn new(every: Duration, requests: usize) -> Self {
        Self {
            every,
            requests,
            request_bytes: REQUEST_BYTES,
            early_hello: false,
            recovery: Recovery {
                probes: true,
                repair: true,
            },
        }
    }
}

/// Start and answer of the hello and of each request, and what the client knows of the path then.
#[derive(Default)]
pub struct Answers {
    pub hello: Option<(Instant, Instant)>,
    pub requests: Vec<(Instant, Instant)>,
    pub estimates: Vec<LinkEstimate>,
}

pub type Log = Rc<RefCell<Answers>>;

/// Says hello and asks behind it, as soon as the handshake is over; waits for each answer before it asks again.
pub struct RequestClient {
    plan: Plan,
    log: Log,
    connected: bool,
    /// The stream of the hello and its start.
    hello: Option<(StreamId, Instant)>,
    next_at: Option<Instant>,
    asked: usize,
    /// The stream of the current request and its start.
    current: Option<(StreamId, Instant)>,
    streams: Streams,
}

impl RequestClient {
    pub fn new(plan: Plan, log: Log, symbols: Rc<Cell<u64>>) -> Self {
        let streams = Streams::new(plan.recovery, symbols);
        Self {
            plan,
            log,
            connected: false,
            hello: None,
            next_at: None,
            asked: 0,
            current: None,
            streams,
        }
    }

    fn ask(&mut self, now: Instant, handle: ConnectionHandle, connection: &mut Connection) {
        if self.hello.is_none() {
            self.hello = Some((self.open(handle, connection, HELLO_BYTES), now));
        }
        let due = self.next_at.is_none_or(|at| at <= now) && self.current.is_none();
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
                Event::Stream(event) => self.streams.note(handle, connection, event),
                _ => {}
            }
        }
        let finished = self.streams.read(handle, connection);
        if let Some((id, start)) = self.hello.filter(|(id, _)| finished.contains(id)) {
            assert_eq!(self.streams.received(handle, id), METADATA_BYTES);
            self.log.borrow_mut().hello = Some((start, now));
        }
        if let Some((id, start)) = self.current.filter(|(id, _)| finished.contains(id)) {
            assert_eq!(self.streams.received(handle, id), ANSWER_BYTES);
            let controller = connection.congestion_state().clone_box();
            let estimate = congestion::link_estimate(controller, connection.rtt());
            let mut log = self.log.borrow_mut();
            log.requests.push((start, now));
            log.estimates.extend(estimate);
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

/// Answers each request as soon as it is complete, and the hello of its connection has come.
pub struct AnswerServer {
    streams: Streams,
    introduced: BTreeSet<ConnectionHandle>,
    /// Requests that have overtaken their hello.
    held: Vec<(ConnectionHandle, StreamId)>,
}

impl AnswerServer {
    pub fn new(recovery: Recovery, symbols: Rc<Cell<u64>>) -> Self {
        Self {
            streams: Streams::new(recovery, symbols),
            introduced: BTreeSet::new(),
            held: Vec::new(),
        }
    }
}

impl App for AnswerServer {
    fn drive(&mut self, now: Instant, connections: &mut Connections) {
        for (&handle, connection) in connections {
            while let Some(event) = connection.poll() {
                match event {
                    // A client's second first packet, sent because the first one's answer was lost, may open a connection of
                    // its own, which nobody uses.
                    Event::ConnectionLost { reason } => {
                        let used = self.introduced.contains(&handle);
                        assert!(!used, "server lost a connection: {reason}");
                    }
                    Event::Stream(event) => self.streams.note(handle, connection, event),
                    _ => {}
                }
            }
            while let Some(id) = connection.streams().accept(Dir::Bi) {
                self.streams
                    .note(handle, connection, StreamEvent::Readable { id });
            }
            for id in self.streams.read(handle, connection) {
                if self.streams.received(handle, id) == HELLO_BYTES {
                    self.introduced.insert(handle);
                    self.streams.send(handle, id, METADATA_BYTES);
                } else {
                    self.held.push((handle, id));
                }
            }
            let introduced = &self.introduced;
            self.held.retain(|(of, id)| {
                let is_held = !introduced.contains(of);
                if !is_held {
                    self.streams.send(*of, *id, ANSWER_BYTES);
                }
                is_held
            });
            self.streams.write(now, handle, connection);
        }
    }

    fn next_wakeup(&self) -> Option<Instant> {
        self.streams.next_probe()
    }
}
