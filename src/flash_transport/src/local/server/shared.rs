//! What a server's threads share.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::peer::Peer;
use crate::link::server_core::ServerCore;

/// What all threads share.
pub(super) struct Shared {
    pub core: ServerCore,
    pub closing: AtomicBool,
    pub peers: Mutex<HashMap<u64, Arc<Peer>>>,
    /// A client has left.
    pub left: Condvar,
}

impl Shared {
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
