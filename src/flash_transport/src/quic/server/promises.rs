//! The requests that the server has taken on and not yet settled, so that it can stop without leaving one behind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All requests that were accepted and whose answers have not arrived yet.
#[derive(Debug, Default)]
pub(super) struct Promises {
    book: Mutex<Book>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct Book {
    open: usize,
    /// No more are made.
    ended: bool,
}

impl Promises {
    /// Take a request on; `None` once [`Self::end`] was called. `of_peer` counts those of one client.
    pub fn make(self: &Arc<Self>, of_peer: &Arc<AtomicUsize>) -> Option<Promise> {
        let mut book = self.book();
        if book.ended {
            return None;
        }
        book.open += 1;
        of_peer.fetch_add(1, Ordering::Relaxed);
        Some(Promise {
            all: self.clone(),
            of_peer: of_peer.clone(),
            broken: false,
        })
    }

    /// Take nothing more on.
    pub fn end(&self) {
        self.book().ended = true;
    }

    /// Wait until all are settled; says whether they are.
    pub fn wait_settled(&self, within: Duration) -> bool {
        let until = Instant::now().checked_add(within);
        let mut book = self.book();
        while book.open > 0 {
            let left = until.map_or(within, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return false;
            }
            let waited = self.settled.wait_timeout(book, left);
            book = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request that wants an answer; settled when dropped.
#[derive(Debug)]
pub(super) struct Promise {
    all: Arc<Promises>,
    of_peer: Arc<AtomicUsize>,
    broken: bool,
}

impl Promise {
    /// There will be no answer. The client's count keeps it, so that the client is told.
    pub fn break_it(mut self) {
        self.broken = true;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.broken {
            self.of_peer.fetch_sub(1, Ordering::Relaxed);
        }
        self.all.book().open -= 1;
        self.all.settled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_peer() -> Arc<AtomicUsize> {
        Arc::default()
    }

    #[test]
    fn waiting_ends_when_the_last_promise_is_settled() {
        let promises = Arc::new(Promises::default());
        let promise = promises.make(&of_peer()).unwrap();
        assert!(!promises.wait_settled(Duration::ZERO));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| promises.wait_settled(Duration::from_secs(60)));
            drop(promise);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn after_the_end_nothing_more_is_promised() {
        let promises = Arc::new(Promises::default());
        promises.end();
        assert!(promises.make(&of_peer()).is_none());
        assert!(promises.wait_settled(Duration::ZERO));
    }

    #[test]
    fn a_broken_promise_stays_with_its_peer_only() {
        let promises = Arc::new(Promises::default());
        let peer = of_peer();
        let kept = promises.make(&peer).unwrap();
        promises.make(&peer).unwrap().break_it();
        drop(kept);
        assert_eq!(peer.load(Ordering::Relaxed), 1);
        assert!(promises.wait_settled(Duration::ZERO));
    }
}
