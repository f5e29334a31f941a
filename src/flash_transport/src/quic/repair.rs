//! Repair of the messages of one connection: sent with them, and read before them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quinn::{Connection, RecvStream, StreamId};
use tokio::sync::watch;

use super::gather::{gather_until, Arrived, GatherError};
use super::signal::Signal;
use crate::buffers::Buffer;
use crate::congestion;
use crate::repair::{symbols, Demand, Inbox, Partial, Repair, Symbol};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// So many bytes of datagrams.
    Sent(usize),
    /// A message was whole before all of it had arrived.
    Rebuilt,
    /// A message's repair was wrong.
    Refused,
}

/// Sends and reads repair. It does neither before both ends have agreed.
pub(crate) struct Repairer {
    connection: Connection,
    is_agreed: AtomicBool,
    /// Of what this end sends; clients keep it from one connection to the next.
    demand: Arc<Mutex<Demand>>,
    inbox: Mutex<Inbox>,
    /// Counts the datagrams of repair that have arrived.
    arrivals: watch::Sender<u64>,
    count: Box<dyn Fn(Event) + Send + Sync>,
}

impl std::fmt::Debug for Repairer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Repairer")
            .field("is_agreed", &self.is_agreed)
            .finish_non_exhaustive()
    }
}

impl Repairer {
    pub fn new(
        connection: Connection,
        demand: Arc<Mutex<Demand>>,
        count: impl Fn(Event) + Send + Sync + 'static,
    ) -> Self {
        let known = lock(&demand).for_new_connection();
        *lock(&demand) = known;
        Self {
            connection,
            is_agreed: AtomicBool::new(false),
            demand,
            inbox: Mutex::default(),
            arrivals: watch::Sender::new(0),
            count: Box::new(count),
        }
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn is_agreed(&self) -> bool {
        self.is_agreed.load(Ordering::Relaxed)
    }

    /// The peer reads repair, and may send it from now on.
    pub fn agree(self: &Arc<Self>) {
        if !self.is_agreed.swap(true, Ordering::Relaxed) {
            tokio::spawn(self.clone().read_datagrams());
        }
    }

    async fn read_datagrams(self: Arc<Self>) {
        while let Ok(datagram) = self.connection.read_datagram().await {
            // Anything else is a probe, which means nothing.
            if let Ok(symbol) = Symbol::decode(&datagram) {
                lock(&self.inbox).put(symbol);
                self.arrivals.send_modify(|arrived| *arrived += 1);
            }
        }
    }

    /// Wait until there is repair for the stream.
    pub async fn arrival(&self, stream: StreamId) {
        let mut arrivals = self.arrivals.subscribe();
        while !lock(&self.inbox).holds(stream.into()) {
            // The sender lives as long as this call.
            let _ = arrivals.changed().await;
        }
    }

    /// Send the repair that the message on `stream` needs. It leaves before the message does, because
    /// QUIC sends datagrams first. Returns whether it is probably enough.
    pub fn send(&self, stream: StreamId, message: &[Bytes]) -> bool {
        if !self.is_agreed() {
            return false;
        }
        let path = self.connection.stats().path;
        let mut demand = lock(&self.demand);
        if path.lost_packets == 0 && demand.rate() == 0.0 {
            return false;
        }
        let Some(datagram) = self.connection.max_datagram_size() else {
            return false;
        };
        let packet = usize::from(path.current_mtu);
        let loss = congestion::path_loss(self.connection.congestion_state());
        demand.note(loss, packet);
        let bytes = message.iter().map(Bytes::len).sum();
        let Some(need) = demand.needs(bytes, packet, datagram, path.rtt) else {
            return false;
        };
        drop(demand);
        let Ok(repair) = Repair::new(need.shape, message) else {
            return false;
        };
        let mut sent = 0;
        for symbol in symbols(&repair, stream.into(), datagram) {
            let bytes = symbol.len();
            if self.connection.send_datagram(symbol).is_err() {
                break;
            }
            sent += bytes;
        }
        (self.count)(Event::Sent(sent));
        need.is_probably_enough
    }

    /// Read to the end of the stream, or until repair makes the message whole; then the rest is
    /// stopped. `begin` has been read already, and is not in the result.
    ///
    /// As [`gather_with`](super::gather::gather_with) otherwise. `admit` is asked about repair, too.
    pub async fn gather<E>(
        &self,
        stream: &mut RecvStream,
        begin: &[u8],
        expected: usize,
        mut admit: impl FnMut(Arrived) -> Result<(), E>,
    ) -> Result<Buffer, GatherError<E>> {
        let id = u64::from(stream.id());
        let mut arrivals = self.arrivals.subscribe();
        let mut gathered = Buffer::with_capacity(expected);
        let symbols = loop {
            let symbols = lock(&self.inbox).take(id);
            if !symbols.is_empty() {
                break symbols;
            }
            let arrived = async {
                // The sender lives as long as this call.
                let _ = arrivals.changed().await;
            };
            if gather_until(stream, &mut gathered, &mut admit, &mut |_| Ok(()), arrived).await? {
                return Ok(gathered);
            }
        };

        let mut partial = Partial::new(begin, gathered);
        let mut symbols = symbols;
        loop {
            for symbol in symbols.drain(..) {
                admit(Arrived::Repair(symbol.pieces.len())).map_err(GatherError::Refused)?;
                if partial.add(symbol).is_err() {
                    (self.count)(Event::Refused);
                }
            }
            let whole = place_all(stream, &mut partial, &mut admit).await?;
            if whole || self.rebuild(&mut partial, &mut admit)? {
                // Fails if everything has arrived.
                let _ = stream.stop(Signal::Done.into());
                return Ok(partial.into_bytes());
            }
            tokio::select! {
                biased;
                _ = arrivals.changed() => symbols = lock(&self.inbox).take(id),
                chunk = stream.read_chunk(usize::MAX, false) => {
                    match chunk.map_err(GatherError::Read)? {
                        Some(chunk) => place(&mut partial, &chunk, &mut admit)?,
                        None => return Ok(partial.into_bytes()),
                    }
                }
            }
        }
    }

    fn rebuild<E>(
        &self,
        partial: &mut Partial,
        admit: &mut impl FnMut(Arrived) -> Result<(), E>,
    ) -> Result<bool, GatherError<E>> {
        match partial.rebuild() {
            Ok(false) => Ok(false),
            Ok(true) => {
                (self.count)(Event::Rebuilt);
                admit(Arrived::Message(partial.rebuilt_bytes())).map_err(GatherError::Refused)?;
                Ok(true)
            }
            Err(_) => {
                (self.count)(Event::Refused);
                Ok(false)
            }
        }
    }
}

/// Take what has arrived of the stream without waiting; returns whether that was the end of it.
async fn place_all<E>(
    stream: &mut RecvStream,
    partial: &mut Partial,
    admit: &mut impl FnMut(Arrived) -> Result<(), E>,
) -> Result<bool, GatherError<E>> {
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = stream.read_chunk(usize::MAX, false) => chunk.map_err(GatherError::Read)?,
            () = std::future::ready(()) => return Ok(false),
        };
        match chunk {
            Some(chunk) => place(partial, &chunk, admit)?,
            None => return Ok(true),
        }
    }
}

fn place<E>(
    partial: &mut Partial,
    chunk: &quinn::Chunk,
    admit: &mut impl FnMut(Arrived) -> Result<(), E>,
) -> Result<(), GatherError<E>> {
    let offset = usize::try_from(chunk.offset).unwrap_or(usize::MAX);
    // Bytes behind a gap take the memory of the gap, too.
    let growth = partial.growth(offset, chunk.bytes.len());
    admit(Arrived::Message(growth)).map_err(GatherError::Refused)?;
    partial
        .place(offset, &chunk.bytes)
        .map_err(GatherError::Scattered)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
