//! What a host reads from and writes to the streams of its connections, the probes behind its messages, and their repair.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Instant;

use bytes::Bytes;
use flash_transport::buffers::Buffer;
use flash_transport::congestion::{self, LossMemory, Pause, TailProbes, PROBE};
use flash_transport::repair::{symbols, Demand, Inbox, Partial, Repair, Symbol};
use quinn_proto::{
    Connection, ConnectionHandle, ReadError, ReadableError, StreamEvent, StreamId, VarInt,
    WriteError,
};

use crate::random::Random;

type Key = (ConnectionHandle, StreamId);

/// What a host does besides writing its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Probes follow a message.
    pub probes: bool,
    /// A message has repair where the path loses packets.
    pub repair: bool,
}

pub struct Streams {
    readable: Vec<Key>,
    received: BTreeMap<Key, usize>,
    unsent: BTreeMap<Key, Unsent>,
    recovery: Recovery,
    losses: BTreeMap<ConnectionHandle, LossMemory>,
    /// Messages that are not delivered yet.
    probed: BTreeMap<Key, Probed>,
    demands: BTreeMap<ConnectionHandle, Demand>,
    inboxes: BTreeMap<ConnectionHandle, Inbox>,
    /// Messages with repair.
    partial: BTreeMap<Key, Partial>,
    /// Messages that are sent with repair that is probably enough.
    repaired: BTreeSet<Key>,
    symbols: Rc<Cell<u64>>,
}

struct Unsent {
    message: usize,
    left: usize,
}

struct Probed {
    /// The end of the pause.
    due: Instant,
    pause: Pause,
    /// Datagrams of the peer's when it began.
    heard: u64,
    probes: TailProbes,
}

impl Streams {
    pub fn new(recovery: Recovery, symbols: Rc<Cell<u64>>) -> Self {
        Self {
            readable: Vec::new(),
            received: BTreeMap::new(),
            unsent: BTreeMap::new(),
            recovery,
            losses: BTreeMap::new(),
            probed: BTreeMap::new(),
            demands: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            partial: BTreeMap::new(),
            repaired: BTreeSet::new(),
            symbols,
        }
    }

    pub fn note(
        &mut self,
        handle: ConnectionHandle,
        connection: &mut Connection,
        event: StreamEvent,
    ) {
        match event {
            StreamEvent::Readable { id } => self.readable.push((handle, id)),
            StreamEvent::Finished { id } => {
                self.probed.remove(&(handle, id));
            }
            // The peer has rebuilt the message. quinn's streams do the same when they are dropped.
            StreamEvent::Stopped { id, error_code } => {
                self.probed.remove(&(handle, id));
                let _ = connection.send_stream(id).reset(error_code);
            }
            _ => {}
        }
    }

    /// Write `bytes` and end the stream, as soon as there is room.
    pub fn send(&mut self, handle: ConnectionHandle, id: StreamId, bytes: usize) {
        let unsent = Unsent {
            message: bytes,
            left: bytes,
        };
        self.unsent.insert((handle, id), unsent);
    }

    pub fn received(&self, handle: ConnectionHandle, id: StreamId) -> usize {
        self.received.get(&(handle, id)).copied().unwrap_or(0)
    }

    pub fn next_probe(&self) -> Option<Instant> {
        self.probed.values().map(|probed| probed.due).min()
    }

    /// Read all there is; returns the streams whose messages are whole.
    pub fn read(&mut self, handle: ConnectionHandle, connection: &mut Connection) -> Vec<StreamId> {
        let mut whole = self.read_repair(handle, connection);
        let readable = std::mem::take(&mut self.readable);
        let (ours, others): (Vec<Key>, Vec<Key>) =
            readable.into_iter().partition(|(of, _)| *of == handle);
        self.readable = others;
        for key in ours {
            if self.read_stream(key, connection) || self.rebuild(key, connection) {
                whole.push(key.1);
            }
        }
        whole
    }

    /// Returns whether the message is whole.
    fn read_stream(&mut self, key: Key, connection: &mut Connection) -> bool {
        let inbox = self.inboxes.entry(key.0).or_default();
        let symbols = inbox.take(key.1.into());
        let received = self.received.entry(key).or_default();
        if !symbols.is_empty() {
            // What was read in order until now.
            let begin = Buffer::from(PATTERN[..*received].to_vec());
            let partial = self
                .partial
                .entry(key)
                .or_insert_with(|| Partial::new(&[], begin));
            for symbol in symbols {
                partial.add(symbol).expect("symbols of one message");
            }
        }
        let partial = self.partial.get_mut(&key);
        let mut stream = connection.recv_stream(key.1);
        let mut chunks = match stream.read(partial.is_none()) {
            Ok(chunks) => chunks,
            Err(ReadableError::ClosedStream) => return false,
            Err(error) => panic!("cannot read: {error}"),
        };
        let mut partial = partial;
        let whole = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    *received += chunk.bytes.len();
                    if let Some(partial) = &mut partial {
                        let offset = chunk.offset as usize;
                        partial.place(offset, &chunk.bytes).expect("few parts");
                    }
                }
                Ok(None) => break true,
                Err(ReadError::Blocked) => break false,
                Err(ReadError::Reset(code)) => panic!("stream was reset with {code}"),
            }
        };
        // Whatever this makes due leaves when the connection is next asked for datagrams.
        let _ = chunks.finalize();
        if whole {
            self.partial.remove(&key);
        }
        whole
    }

    /// Returns the streams whose messages are whole now.
    fn read_repair(
        &mut self,
        handle: ConnectionHandle,
        connection: &mut Connection,
    ) -> Vec<StreamId> {
        let inbox = self.inboxes.entry(handle).or_default();
        let mut concerned = Vec::new();
        while let Some(datagram) = connection.datagrams().recv() {
            if let Ok(symbol) = Symbol::decode(&datagram) {
                concerned.push(symbol.stream);
                inbox.put(symbol);
            }
        }
        concerned.dedup();
        let mut whole = Vec::new();
        for stream in concerned {
            let id = StreamId::from(VarInt::from_u64(stream).expect("a stream of ours"));
            let key = (handle, id);
            // Repair may come before its stream, and after it.
            let is_open = self.received.contains_key(&key);
            if is_open && (self.read_stream(key, connection) || self.rebuild(key, connection)) {
                whole.push(id);
            }
        }
        whole
    }

    fn rebuild(&mut self, key: Key, connection: &mut Connection) -> bool {
        let Some(partial) = self.partial.get_mut(&key) else {
            return false;
        };
        if !partial.rebuild().expect("repair of our own") {
            return false;
        }
        let message = self.partial.remove(&key).expect("the same").into_bytes();
        assert!(*message == PATTERN[..message.len()]);
        self.received.insert(key, message.len());
        let _ = connection.recv_stream(key.1).stop(VarInt::from_u32(0));
        true
    }

    /// Write as much as the send buffer takes, and the probes that are due.
    pub fn write(&mut self, now: Instant, handle: ConnectionHandle, connection: &mut Connection) {
        let unsent: Vec<Key> = self
            .unsent
            .keys()
            .filter(|(of, _)| *of == handle)
            .copied()
            .collect();
        for key in unsent {
            let Unsent { message, left } = self.unsent.remove(&key).expect("a key of the map");
            if left == message && self.send_repair(key, connection, message) {
                self.repaired.insert(key);
            }
            match write_message(connection, key.1, message, left) {
                0 => self.finish(now, key, connection),
                left => {
                    self.unsent.insert(key, Unsent { message, left });
                }
            }
        }
        self.probe(now, handle, connection);
    }

    /// Returns whether it is probably enough.
    fn send_repair(&mut self, key: Key, connection: &mut Connection, message: usize) -> bool {
        if !self.recovery.repair || connection.stats().path.lost_packets == 0 {
            return false;
        }
        let Some(datagram) = connection.datagrams().max_size() else {
            return false;
        };
        let packet = usize::from(connection.stats().path.current_mtu);
        let demand = self.demands.entry(key.0).or_default();
        let path = congestion::path_loss(connection.congestion_state().clone_box());
        demand.note(path, packet);
        let Some(need) = demand.needs(message, packet, datagram, connection.rtt()) else {
            return false;
        };
        let repair = Repair::new(need.shape, &[Bytes::from_static(&PATTERN).slice(..message)])
            .expect("a shape of ours");
        for symbol in symbols(&repair, key.1.into(), datagram) {
            connection
                .datagrams()
                .send(symbol, false)
                .expect("a peer that takes datagrams");
            self.symbols.set(self.symbols.get() + 1);
        }
        need.is_probably_enough
    }

    fn finish(&mut self, now: Instant, key: Key, connection: &mut Connection) {
        connection
            .send_stream(key.1)
            .finish()
            .expect("an open stream");
        let has_repair = self.repaired.remove(&key);
        let losses = self.losses.entry(key.0).or_default();
        let lost_packets = connection.stats().path.lost_packets;
        let mut probes = losses.probes(lost_packets, connection.rtt(), has_repair);
        if let Some(pause) = probes.next().filter(|_| self.recovery.probes) {
            let probed = Probed {
                due: now + pause.time,
                pause,
                heard: connection.stats().udp_rx.datagrams,
                probes,
            };
            self.probed.insert(key, probed);
        }
    }

    fn probe(&mut self, now: Instant, handle: ConnectionHandle, connection: &mut Connection) {
        self.probed.retain(|(of, _), probed| {
            if *of != handle || probed.due > now {
                return true;
            }
            let heard = connection.stats().udp_rx.datagrams;
            if !probed.pause.only_if_silent || heard == probed.heard {
                connection
                    .datagrams()
                    .send(Bytes::from_static(PROBE), true)
                    .expect("a peer that takes datagrams");
            }
            probed.heard = heard;
            let next = probed.probes.next();
            if let Some(pause) = next {
                probed.due = now + pause.time;
                probed.pause = pause;
            }
            next.is_some()
        });
    }
}

/// Returns how many of the bytes had no room.
fn write_message(
    connection: &mut Connection,
    id: StreamId,
    message: usize,
    mut left: usize,
) -> usize {
    let mut stream = connection.send_stream(id);
    while left > 0 {
        let piece = Bytes::from_static(&PATTERN).slice(message - left..message);
        match stream.write_chunks(&mut [piece]) {
            Ok(written) => left -= written.bytes,
            Err(WriteError::Blocked) => break,
            Err(error) => panic!("cannot write: {error}"),
        }
    }
    left
}

/// All messages begin like this.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(1);
    (0..LONGEST_MESSAGE / 8)
        .flat_map(|_| random.bits().to_le_bytes())
        .collect()
});

const LONGEST_MESSAGE: usize = 3 << 20;
