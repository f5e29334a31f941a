//! What one peer, and all of them together, may cost.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// Limits of a server. Times are data here; whoever waits reads the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLimits {
    /// Bytes of one request after its first byte.
    pub message_bytes: usize,
    /// Bytes of the requests of one connection that are not answered yet.
    pub connection_bytes: usize,
    /// Bytes of the requests of all connections that are not answered yet.
    pub total_bytes: usize,
    /// Requests of one connection at a time; QUIC lets the peer open no more streams.
    pub connection_requests: u32,
    pub connections: usize,
    /// From connecting to a good hello. A stranger holds a place no longer than this.
    pub hello_time: Duration,
    /// From the first byte of a request to its last. 64 MiB in 30 s is 18 Mb/s.
    pub request_time: Duration,
    /// From an answer to its delivery. A peer that does not read holds its answer no longer than this.
    pub answer_time: Duration,
}

impl ServerLimits {
    pub fn with_message_bytes(message_bytes: usize) -> Self {
        Self {
            message_bytes,
            connection_bytes: message_bytes.saturating_mul(2),
            total_bytes: message_bytes.saturating_mul(8),
            connection_requests: 64,
            connections: 256,
            hello_time: Duration::from_secs(10),
            request_time: Duration::from_secs(30),
            answer_time: Duration::from_secs(30),
        }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self::with_message_bytes(64 << 20)
    }
}

/// A number of bytes that many may take from.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
        })
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            });
        taken
            .map(|_| ())
            .map_err(|_| Exhausted { limit: self.limit })
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    pub limit: usize,
}

/// Bytes taken from a connection's budget and from everybody's; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    connection: Arc<Budget>,
    total: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    pub fn empty(connection: Arc<Budget>, total: Arc<Budget>) -> Self {
        Self {
            connection,
            total,
            bytes: 0,
        }
    }

    pub fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.connection.take(bytes)?;
        if let Err(exhausted) = self.total.take(bytes) {
            self.connection.give_back(bytes);
            return Err(exhausted);
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.connection.give_back(self.bytes);
        self.total.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_reservation_gives_all_back() {
        let (connection, total) = (Budget::new(10), Budget::new(20));
        let mut reservation = Reservation::empty(connection.clone(), total.clone());
        reservation.grow(4).unwrap();
        reservation.grow(6).unwrap();
        assert_eq!((connection.used(), total.used()), (10, 10));
        drop(reservation);
        assert_eq!((connection.used(), total.used()), (0, 0));
    }

    #[test]
    fn one_connection_cannot_take_more_than_its_part() {
        let total = Budget::new(20);
        let mut greedy = Reservation::empty(Budget::new(10), total.clone());
        greedy.grow(10).unwrap();
        assert_eq!(greedy.grow(1), Err(Exhausted { limit: 10 }));
        let mut other = Reservation::empty(Budget::new(10), total);
        assert_eq!(other.grow(10), Ok(()));
    }

    #[test]
    fn what_all_may_take_is_bounded_and_a_refusal_takes_nothing() {
        let (connection, total) = (Budget::new(10), Budget::new(12));
        let mut first = Reservation::empty(Budget::new(10), total.clone());
        first.grow(8).unwrap();
        let mut second = Reservation::empty(connection.clone(), total.clone());
        assert_eq!(second.grow(5), Err(Exhausted { limit: 12 }));
        assert_eq!((connection.used(), total.used()), (0, 8));
    }

    #[test]
    fn an_absurd_size_is_refused_without_overflow() {
        let mut reservation = Reservation::empty(Budget::new(10), Budget::new(10));
        reservation.grow(1).unwrap();
        assert!(reservation.grow(usize::MAX).is_err());
    }
}
