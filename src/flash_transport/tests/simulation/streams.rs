//! What a host reads from and writes to the streams of its connections, and the probes behind its messages.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use flash_transport::congestion::{LossMemory, Pause, TailProbes, PROBE};
use quinn_proto::{
    Connection, ConnectionHandle, ReadError, ReadableError, StreamEvent, StreamId, WriteError,
};

type Key = (ConnectionHandle, StreamId);

pub struct Streams {
    readable: Vec<Key>,
    received: BTreeMap<Key, usize>,
    unsent: BTreeMap<Key, usize>,
    probes: bool,
    losses: BTreeMap<ConnectionHandle, LossMemory>,
    /// Messages that are not delivered yet.
    probed: BTreeMap<Key, Probed>,
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
    pub fn new(probes: bool) -> Self {
        Self {
            readable: Vec::new(),
            received: BTreeMap::new(),
            unsent: BTreeMap::new(),
            probes,
            losses: BTreeMap::new(),
            probed: BTreeMap::new(),
        }
    }

    pub fn note(&mut self, handle: ConnectionHandle, event: StreamEvent) {
        match event {
            StreamEvent::Readable { id } => self.readable.push((handle, id)),
            StreamEvent::Finished { id } => {
                self.probed.remove(&(handle, id));
            }
            _ => {}
        }
    }

    /// Write `bytes` and end the stream, as soon as there is room.
    pub fn send(&mut self, handle: ConnectionHandle, id: StreamId, bytes: usize) {
        self.unsent.insert((handle, id), bytes);
    }

    pub fn received(&self, handle: ConnectionHandle, id: StreamId) -> usize {
        self.received.get(&(handle, id)).copied().unwrap_or(0)
    }

    pub fn next_probe(&self) -> Option<Instant> {
        self.probed.values().map(|probed| probed.due).min()
    }

    /// Read all there is; returns the streams that have ended.
    pub fn read(&mut self, handle: ConnectionHandle, connection: &mut Connection) -> Vec<StreamId> {
        let readable = std::mem::take(&mut self.readable);
        let (ours, others): (Vec<Key>, Vec<Key>) =
            readable.into_iter().partition(|(of, _)| *of == handle);
        self.readable = others;
        let mut finished = Vec::new();
        for (_, id) in ours {
            let mut stream = connection.recv_stream(id);
            let mut chunks = match stream.read(true) {
                Ok(chunks) => chunks,
                Err(ReadableError::ClosedStream) => continue,
                Err(error) => panic!("cannot read: {error}"),
            };
            loop {
                match chunks.next(usize::MAX) {
                    Ok(Some(chunk)) => {
                        *self.received.entry((handle, id)).or_default() += chunk.bytes.len();
                    }
                    Ok(None) => {
                        finished.push(id);
                        break;
                    }
                    Err(ReadError::Blocked) => break,
                    Err(ReadError::Reset(code)) => panic!("stream was reset with {code}"),
                }
            }
            // Whatever this makes due leaves when the connection is next asked for datagrams.
            let _ = chunks.finalize();
        }
        finished
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
            let left = self.unsent.remove(&key).expect("a key of the map");
            match write_zeros(connection, key.1, left) {
                0 => self.finish(now, key, connection),
                left => {
                    self.unsent.insert(key, left);
                }
            }
        }
        self.probe(now, handle, connection);
    }

    fn finish(&mut self, now: Instant, key: Key, connection: &mut Connection) {
        connection
            .send_stream(key.1)
            .finish()
            .expect("an open stream");
        let losses = self.losses.entry(key.0).or_default();
        let lost_packets = connection.stats().path.lost_packets;
        let mut probes = losses.probes(lost_packets, connection.rtt());
        if let Some(pause) = probes.next().filter(|_| self.probes) {
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
fn write_zeros(connection: &mut Connection, id: StreamId, mut left: usize) -> usize {
    let mut stream = connection.send_stream(id);
    while left > 0 {
        let piece = Bytes::from_static(&ZEROS).slice(..ZEROS.len().min(left));
        match stream.write_chunks(&mut [piece]) {
            Ok(written) => left -= written.bytes,
            Err(WriteError::Blocked) => break,
            Err(error) => panic!("cannot write: {error}"),
        }
    }
    left
}

static ZEROS: [u8; 65_536] = [0; 65_536];
