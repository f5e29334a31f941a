//! Traffic that always has more to send, as a download has. A flow whose connection breaks gets nothing from then on.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{Dir, Event, ReadError, StreamEvent, StreamId, WriteError};

use crate::host::{App, Connections};

/// Writes one endless stream.
#[derive(Default)]
pub struct BulkSender {
    connected: bool,
    stream: Option<StreamId>,
}

impl App for BulkSender {
    fn drive(&mut self, _now: Instant, connections: &mut Connections) {
        let Some(connection) = connections.values_mut().next() else {
            return;
        };
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => self.connected = true,
                Event::ConnectionLost { .. } => self.connected = false,
                _ => {}
            }
        }
        if !self.connected {
            return;
        }
        let id = *self
            .stream
            .get_or_insert_with(|| connection.streams().open(Dir::Bi).expect("a free stream"));
        loop {
            match connection
                .send_stream(id)
                .write_chunks(&mut [Bytes::from_static(&PIECE)])
            {
                Ok(_) => {}
                Err(WriteError::Blocked) => return,
                Err(error) => panic!("cannot write: {error}"),
            }
        }
    }

    fn next_wakeup(&self) -> Option<Instant> {
        None
    }
}

/// Counts the bytes that arrive on all streams.
pub struct BulkSink {
    received: Rc<Cell<u64>>,
}

impl BulkSink {
    pub fn new(received: Rc<Cell<u64>>) -> Self {
        Self { received }
    }
}

impl App for BulkSink {
    fn drive(&mut self, _now: Instant, connections: &mut Connections) {
        for connection in connections.values_mut() {
            let mut readable = Vec::new();
            while let Some(event) = connection.poll() {
                match event {
                    Event::ConnectionLost { .. } => readable.clear(),
                    Event::Stream(StreamEvent::Readable { id }) => readable.push(id),
                    _ => {}
                }
            }
            while let Some(id) = connection.streams().accept(Dir::Bi) {
                readable.push(id);
            }
            for id in readable {
                let mut stream = connection.recv_stream(id);
                let Ok(mut chunks) = stream.read(true) else {
                    continue;
                };
                loop {
                    match chunks.next(usize::MAX) {
                        Ok(Some(chunk)) => {
                            let total = self.received.get() + chunk.bytes.len() as u64;
                            self.received.set(total);
                        }
                        Err(ReadError::Blocked) => break,
                        end => panic!("an endless stream ended: {end:?}"),
                    }
                }
                // quinn sends what this makes due when it is asked for datagrams next.
                let _ = chunks.finalize();
            }
        }
    }

    fn next_wakeup(&self) -> Option<Instant> {
        None
    }
}

static PIECE: [u8; 65_536] = [0; 65_536];
