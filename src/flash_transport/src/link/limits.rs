//! Limits of what one peer, and all peers together, may use.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Limits of a server. Times are only values here; the caller reads the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLimits {
    /// Bytes of one request after its first byte.
    pub message_bytes: usize,
    /// Bytes of one connection's requests that are not answered yet, and of its answers that it has not read.
    pub connection_bytes: usize,
    /// The same for all connections, beyond `own_bytes` of each.
    pub total_bytes: usize,
    /// Bytes reserved for each connection, whatever the others hold. A request with three raw
    /// 640x480 images fits.
    pub own_bytes: usize,
    /// Requests of one connection at a time; QUIC lets the peer open no more streams.
    pub connection_requests: u32,
    pub connections: usize,
    /// Connections of one address, so that no address can take all. Robots behind one NAT share an
    /// address.
    pub connections_of_address: usize,
    /// Time from connecting to a good hello. An unauthenticated client holds a connection no longer
    /// than this.
    pub hello_time: Duration,
    /// The longest delay of a hello whose address had others refused. Short enough that a client
    /// with the right key still connects within its `connect_timeout`.
    pub hello_delay: Duration,
    /// Time from the first byte of a request to its last. 64 MiB in 30 s is 18 Mb/s.
    pub request_time: Duration,
    /// Time from an answer to its delivery. A peer that does not read loses its answer after this.
    pub answer_time: Duration,
}

impl ServerLimits {
    pub fn with_message_bytes(message_bytes: usize) -> Self {
        Self {
            message_bytes,
            connection_bytes: message_bytes.saturating_mul(2),
            total_bytes: message_bytes.saturating_mul(8),
            own_bytes: message_bytes / 16,
            connection_requests: 64,
            connections: 256,
            connections_of_address: 128,
            hello_time: Duration::from_secs(10),
            hello_delay: Duration::from_secs(4),
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

/// A number of bytes that several accounts share.
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

    fn take_anyway(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    pub limit: usize,
}

/// The bytes that one connection holds: the first ones from a part reserved for it, the rest from
/// the budget of all.
#[derive(Debug)]
pub struct Account {
    limit: usize,
    own: usize,
    total: Arc<Budget>,
    used: Mutex<usize>,
}

impl Account {
    pub fn new(limits: &ServerLimits, total: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            limit: limits.connection_bytes,
            own: limits.own_bytes,
            total,
            used: Mutex::new(0),
        })
    }

    pub fn used(&self) -> usize {
        *self.lock()
    }

    fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let mut used = self.lock();
        let sum = used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let sum = sum.ok_or(Exhausted { limit: self.limit })?;
        self.total
            .take(self.beyond_own(sum) - self.beyond_own(*used))?;
        *used = sum;
        Ok(())
    }

    fn take_anyway(&self, bytes: usize) {
        let mut used = self.lock();
        let sum = used.saturating_add(bytes);
        self.total
            .take_anyway(self.beyond_own(sum) - self.beyond_own(*used));
        *used = sum;
    }

    fn give_back(&self, bytes: usize) {
        let mut used = self.lock();
        let left = used.saturating_sub(bytes);
        self.total
            .give_back(self.beyond_own(*used) - self.beyond_own(left));
        *used = left;
    }

    fn beyond_own(&self, used: usize) -> usize {
        used.saturating_sub(self.own)
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes taken from a connection's account; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    account: Arc<Account>,
    bytes: usize,
}

impl Reservation {
    pub fn empty(account: Arc<Account>) -> Self {
        Self { account, bytes: 0 }
    }

    /// Reserve bytes for a request, within the limits of the connection and of all.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.account.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Reserve bytes for an answer, beyond the limits if necessary: the answer exists already. The
    /// client's next requests are refused instead.
    pub fn grow_for_answer(&mut self, bytes: usize) {
        self.account.take_anyway(bytes);
        self.bytes += bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Accounts of up to 10 bytes, 2 of them reserved.
    fn account(total: &Arc<Budget>) -> Arc<Account> {
        let mut limits = ServerLimits::with_message_bytes(5);
        limits.own_bytes = 2;
        Account::new(&limits, total.clone())
    }

    #[test]
    fn a_dropped_reservation_gives_all_back() {
        let total = Budget::new(20);
        let account = account(&total);
        let mut reservation = Reservation::empty(account.clone());
        reservation.grow(4).unwrap();
        reservation.grow(6).unwrap();
        assert_eq!((account.used(), total.used()), (10, 8));
        drop(reservation);
        assert_eq!((account.used(), total.used()), (0, 0));
    }

    #[test]
    fn one_connection_cannot_take_more_than_its_part() {
        let total = Budget::new(20);
        let mut greedy = Reservation::empty(account(&total));
        greedy.grow(10).unwrap();
        assert_eq!(greedy.grow(1), Err(Exhausted { limit: 10 }));
        let mut other = Reservation::empty(account(&total));
        assert_eq!(other.grow(10), Ok(()));
    }

    #[test]
    fn what_all_may_take_is_bounded_and_a_refusal_takes_nothing() {
        let total = Budget::new(12);
        let mut first = Reservation::empty(account(&total));
        first.grow(10).unwrap();
        let account = account(&total);
        let mut second = Reservation::empty(account.clone());
        assert_eq!(second.grow(7), Err(Exhausted { limit: 12 }));
        assert_eq!((account.used(), total.used()), (0, 8));
    }

    #[test]
    fn a_connections_own_part_is_there_when_all_else_is_taken() {
        let total = Budget::new(8);
        let mut greedy = Reservation::empty(account(&total));
        greedy.grow(10).unwrap();
        let mut modest = Reservation::empty(account(&total));
        assert_eq!(modest.grow(2), Ok(()));
        assert_eq!(modest.grow(1), Err(Exhausted { limit: 8 }));
    }

    #[test]
    fn an_answer_always_has_room_and_the_next_requests_wait_for_it() {
        let total = Budget::new(8);
        let account = account(&total);
        let mut request = Reservation::empty(account.clone());
        request.grow(10).unwrap();
        let mut answer = Reservation::empty(account.clone());
        answer.grow_for_answer(5);
        drop(request);
        let mut next = Reservation::empty(account);
        assert_eq!(next.grow(6), Err(Exhausted { limit: 10 }));
        drop(answer);
        assert_eq!(next.grow(6), Ok(()));
        drop(next);
        assert_eq!(total.used(), 0);
    }

    #[test]
    fn an_absurd_size_is_refused_without_overflow() {
        let mut reservation = Reservation::empty(account(&Budget::new(10)));
        reservation.grow(1).unwrap();
        assert!(reservation.grow(usize::MAX).is_err());
    }

    proptest! {
        #[test]
        fn the_accounts_add_up_whatever_is_taken_and_given_back(
            steps in proptest::collection::vec((0..4usize, 0..12usize, any::<bool>()), 0..60)
        ) {
            let total = Budget::new(16);
            let accounts = [(); 4].map(|()| account(&total));
            let mut held: Vec<Vec<Reservation>> = vec![Vec::new(); 4].into_iter().map(|_: Vec<()>| Vec::new()).collect();
            for (who, bytes, take) in steps {
                if take {
                    let mut reservation = Reservation::empty(accounts[who].clone());
                    if reservation.grow(bytes).is_ok() {
                        held[who].push(reservation);
                    }
                } else {
                    held[who].pop();
                }
                let beyond: usize = accounts.iter().map(|account| account.used().saturating_sub(2)).sum();
                prop_assert_eq!(total.used(), beyond);
                prop_assert!(total.used() <= 16);
                prop_assert!(accounts.iter().all(|account| account.used() <= 10));
            }
            drop(held);
            prop_assert_eq!(total.used(), 0);
        }
    }
}
