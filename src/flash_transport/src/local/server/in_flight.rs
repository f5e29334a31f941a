//! The requests of one client that are not answered yet, by their numbers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::link::accepted::AcceptedRequest;
use crate::link::table::RequestId;

/// One request that the client waits for.
#[derive(Debug)]
pub(super) struct Waiting {
    pub cancelled: Arc<AtomicBool>,
    /// Its place among those that nobody has taken yet.
    pub place: Option<RequestId>,
    _accepted: AcceptedRequest,
}

#[derive(Debug, Default)]
pub(super) struct InFlight {
    by_id: Mutex<HashMap<u32, Waiting>>,
}

impl InFlight {
    /// Enter a request; `None` if its number is in use.
    pub fn enter(&self, id: u32, accepted: AcceptedRequest) -> Option<Arc<AtomicBool>> {
        let mut by_id = self.by_id();
        if by_id.contains_key(&id) {
            return None;
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let waiting = Waiting {
            cancelled: cancelled.clone(),
            place: None,
            _accepted: accepted,
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
