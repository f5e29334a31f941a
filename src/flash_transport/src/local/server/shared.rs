//! What a server's threads share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::in_flight::{Open, OpenRequest};
use super::peer::Peer;
use crate::link::counters::Counters;
use crate::link::keys::ApiKeys;
use crate::link::limits::{Budget, ServerLimits};
use crate::link::queue::Queue;
use crate::link::request::Request;

/// What all threads share.
pub(super) struct Shared {
    pub queue: Queue<Request>,
    pub counters: Counters,
    pub keys: ApiKeys,
    pub limits: ServerLimits,
    pub metadata: Mutex<Option<Arc<[u8]>>>,
    pub budget: Arc<Budget>,
    /// Requests that were accepted and are not settled.
    pub open: Arc<Open>,
    /// Turns true when the server takes no more requests.
    pub draining: AtomicBool,
    pub closing: AtomicBool,
    pub peers: Mutex<HashMap<u64, Arc<Peer>>>,
    /// A client has left.
    pub left: Condvar,
}

impl Shared {
    pub fn metadata(&self) -> Option<Arc<[u8]>> {
        lock(&self.metadata).clone()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Take one request on; `None` when the server stops.
    pub fn accept_request(&self) -> Option<OpenRequest> {
        // Counted first, so that whoever waits for the last one does not miss it.
        let open = self.open.one();
        (!self.is_draining()).then_some(open)
    }

    pub fn all_peers(&self) -> Vec<Arc<Peer>> {
        lock(&self.peers).values().cloned().collect()
    }

    pub fn wait_until_all_left(&self, within: Duration) {
        let waited = self
            .left
            .wait_timeout_while(lock(&self.peers), within, |peers| !peers.is_empty());
        drop(waited);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
