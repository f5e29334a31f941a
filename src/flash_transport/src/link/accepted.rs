//! The requests that a server has accepted and not settled yet, so that it leaves none behind when
//! it stops.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All requests that were accepted and whose answers have not arrived yet.
#[derive(Debug, Default)]
pub struct AcceptedRequests {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// Whether the server has stopped accepting requests.
    ended: bool,
}

impl AcceptedRequests {
    /// Accept a request; `None` once [`Self::end`] was called. `of_peer` counts those of one client.
    pub fn accept(self: &Arc<Self>, of_peer: &Arc<AtomicUsize>) -> Option<AcceptedRequest> {
        let mut state = self.state();
        if state.ended {
            return None;
        }
        state.open += 1;
        of_peer.fetch_add(1, Ordering::Relaxed);
        Some(AcceptedRequest {
            all: self.clone(),
            of_peer: of_peer.clone(),
            unanswered: false,
        })
    }

    /// Accept no more requests.
    pub fn end(&self) {
        self.state().ended = true;
    }

    pub fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// Wait until all requests are settled; returns whether they are.
    pub fn wait_settled(&self, within: Duration) -> bool {
        let until = Instant::now().checked_add(within);
        let mut state = self.state();
        while state.open > 0 {
            let left = until.map_or(within, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return false;
            }
            let waited = self.settled.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One accepted request; settled when dropped.
#[derive(Debug)]
pub struct AcceptedRequest {
    all: Arc<AcceptedRequests>,
    of_peer: Arc<AtomicUsize>,
    unanswered: bool,
}

impl AcceptedRequest {
    /// Settle it without an answer. The client's count keeps it, so that the client learns of it.
    pub fn leave_unanswered(mut self) {
        self.unanswered = true;
    }
}

impl Drop for AcceptedRequest {
    fn drop(&mut self) {
        if !self.unanswered {
            self.of_peer.fetch_sub(1, Ordering::Relaxed);
        }
        self.all.state().open -= 1;
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
    fn waiting_ends_when_the_last_request_is_settled() {
        let accepted = Arc::new(AcceptedRequests::default());
        let request = accepted.accept(&of_peer()).unwrap();
        assert!(!accepted.wait_settled(Duration::ZERO));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| accepted.wait_settled(Duration::from_secs(60)));
            drop(request);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn after_the_end_nothing_more_is_accepted() {
        let accepted = Arc::new(AcceptedRequests::default());
        accepted.end();
        assert!(accepted.has_ended());
        assert!(accepted.accept(&of_peer()).is_none());
        assert!(accepted.wait_settled(Duration::ZERO));
    }

    #[test]
    fn an_unanswered_request_stays_with_its_peer_only() {
        let accepted = Arc::new(AcceptedRequests::default());
        let peer = of_peer();
        let answered = accepted.accept(&peer).unwrap();
        accepted.accept(&peer).unwrap().leave_unanswered();
        drop(answered);
        assert_eq!(peer.load(Ordering::Relaxed), 1);
        assert!(accepted.wait_settled(Duration::ZERO));
    }
}
