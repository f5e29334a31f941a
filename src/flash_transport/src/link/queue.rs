//! The table of waiting requests, with blocking `next`.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::link::table::{RequestId, RequestTable};

/// Waiting requests, and the threads that wait for them.
#[derive(Debug)]
pub struct Queue<T> {
    table: Mutex<RequestTable<T>>,
    changed: Condvar,
}

/// The result of waiting for a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    Request(T),
    /// No request within the time.
    Nothing,
    /// The queue is closed: no request will follow.
    Closed,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Queue<T> {
    pub fn new() -> Self {
        Self {
            table: Mutex::new(RequestTable::new()),
            changed: Condvar::new(),
        }
    }

    pub fn enter(&self, client: &Arc<str>, request: T) -> Result<RequestId, T> {
        let id = self.table().enter(client, request)?;
        self.changed.notify_one();
        Ok(id)
    }

    pub fn withdraw(&self, id: &RequestId) -> Option<T> {
        self.table().withdraw(id)
    }

    /// Wake all waiting threads, and return the requests that none has taken.
    pub fn close(&self) -> Vec<T> {
        let left = self.table().close();
        self.changed.notify_all();
        left
    }

    pub fn next(&self, within: Duration) -> Next<T> {
        let until = Instant::now().checked_add(within);
        let mut table = self.table();
        loop {
            if let Some(request) = table.take() {
                return Next::Request(request);
            }
            if table.is_closed() {
                return Next::Closed;
            }
            let left = match until {
                Some(until) => until.saturating_duration_since(Instant::now()),
                None => within,
            };
            if left.is_zero() {
                return Next::Nothing;
            }
            let waited = self.changed.wait_timeout(table, left);
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn table(&self) -> MutexGuard<'_, RequestTable<T>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_waiting_thread_gets_what_enters() {
        let queue = Queue::new();
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| queue.next(LONG));
            queue.enter(&"arm".into(), 7).unwrap();
            assert_eq!(taker.join().unwrap(), Next::Request(7));
        });
    }

    #[test]
    fn closing_wakes_everybody() {
        let queue = Queue::<i32>::new();
        std::thread::scope(|scope| {
            let takers = [(); 2].map(|()| scope.spawn(|| queue.next(LONG)));
            queue.close();
            for taker in takers {
                assert_eq!(taker.join().unwrap(), Next::Closed);
            }
        });
    }

    #[test]
    fn waiting_ends_with_its_time() {
        let queue = Queue::<i32>::new();
        assert_eq!(queue.next(Duration::ZERO), Next::Nothing);
        assert_eq!(queue.next(Duration::from_millis(1)), Next::Nothing);
    }
}
