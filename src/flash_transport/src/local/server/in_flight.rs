//! The requests of one client that are not answered yet, by their numbers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::link::table::RequestId;

/// One request that the client waits for.
#[derive(Debug)]
pub(super) struct Waiting {
    pub cancelled: Arc<AtomicBool>,
    /// Its place among those that nobody has taken yet.
    pub place: Option<RequestId>,
    _open: OpenRequest,
}

#[derive(Debug, Default)]
pub(super) struct InFlight {
    by_id: Mutex<HashMap<u32, Waiting>>,
}

impl InFlight {
    /// Enter a request; `None` if its number is in use.
    pub fn enter(&self, id: u32, open: OpenRequest) -> Option<Arc<AtomicBool>> {
        let mut by_id = self.by_id();
        if by_id.contains_key(&id) {
            return None;
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let waiting = Waiting {
            cancelled: cancelled.clone(),
            place: None,
            _open: open,
        };
        by_id.insert(id, waiting);
        Some(cancelled)
    }

    /// Where it waits, unless it is answered by now.
    pub fn has_place(&self, id: u32, place: RequestId) {
        if let Some(waiting) = self.by_id().get_mut(&id) {
            waiting.place = Some(place);
        }
    }

    /// Its answer goes out; `None` if nobody wants one.
    pub fn settle(&self, id: u32) -> Option<Waiting> {
        self.by_id().remove(&id)
    }

    /// Nobody wants its answer any more; `None` if it is answered by now.
    pub fn cancel(&self, id: u32) -> Option<Waiting> {
        let waiting = self.by_id().remove(&id)?;
        waiting.cancelled.store(true, Ordering::Relaxed);
        Some(waiting)
    }

    pub fn cancel_all(&self) -> Vec<Waiting> {
        let all: Vec<Waiting> = self.by_id().drain().map(|(_, waiting)| waiting).collect();
        for waiting in &all {
            waiting.cancelled.store(true, Ordering::Relaxed);
        }
        all
    }

    pub fn len(&self) -> usize {
        self.by_id().len()
    }

    fn by_id(&self) -> MutexGuard<'_, HashMap<u32, Waiting>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the requests of all clients that were accepted and are not settled.
#[derive(Debug, Default)]
pub(super) struct Open {
    count: Mutex<usize>,
    settled: Condvar,
}

impl Open {
    pub fn one(self: &Arc<Self>) -> OpenRequest {
        *self.count() += 1;
        OpenRequest(self.clone())
    }

    /// Wait until there is none; says whether there is none.
    pub fn wait_for_none(&self, within: Duration) -> bool {
        let until = Instant::now().checked_add(within);
        let mut count = self.count();
        while *count > 0 {
            let left = until.map_or(within, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return false;
            }
            let waited = self.settled.wait_timeout(count, left);
            count = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One accepted request; settled when dropped.
#[derive(Debug)]
pub(super) struct OpenRequest(Arc<Open>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        *self.0.count() -= 1;
        self.0.settled.notify_all();
    }
}
