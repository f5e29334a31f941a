//! The unanswered requests of one client, by id.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::link::accepted::AcceptedRequest;
use crate::link::table::RequestId;

/// A request whose client waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub cancelled: Arc<AtomicBool>,
    /// Its place in the queue, until it is taken.
    pub place: Option<RequestId>,
    _accepted: AcceptedRequest,
}

#[derive(Debug, Default)]
pub(super) struct InFlight {
    by_id: Mutex<HashMap<u32, Waiting>>,
}

impl InFlight {
    /// Add a request; `None` if its id is in use.
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

    /// Note its place in the queue, unless it has been answered.
    pub fn has_place(&self, id: u32, place: RequestId) {
        if let Some(waiting) = self.by_id().get_mut(&id) {
            waiting.place = Some(place);
        }
    }

    /// Whether its client still waits.
    pub fn is_waiting(&self, id: u32) -> bool {
        self.by_id().contains_key(&id)
    }

    /// Remove it, to send its answer; `None` if it was cancelled.
    pub fn settle(&self, id: u32) -> Option<Waiting> {
        self.by_id().remove(&id)
    }

    /// Cancel it; `None` if it has been answered.
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
