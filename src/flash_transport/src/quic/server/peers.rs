//! The connections of a server, by number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::peer::Peer;

#[derive(Debug, Default)]
pub(super) struct Peers {
    by_number: Mutex<HashMap<u64, Arc<Peer>>>,
}

impl Peers {
    /// List `peer` for as long as the guard lives.
    pub fn enter(self: &Arc<Self>, peer: &Arc<Peer>) -> Entry {
        self.list().insert(peer.number, peer.clone());
        Entry {
            peers: self.clone(),
            number: peer.number,
        }
    }

    pub fn all(&self) -> Vec<Arc<Peer>> {
        self.list().values().cloned().collect()
    }

    fn list(&self) -> MutexGuard<'_, HashMap<u64, Arc<Peer>>> {
        self.by_number
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Entry {
    peers: Arc<Peers>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.peers.list().remove(&self.number);
    }
}
