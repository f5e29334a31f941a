//! A request among those of its session, as [`Lines`] keeps them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::lines::{Lines, Progress, RequestId};

/// The lines of one client. Each request's `T` is the sender that tells it that it was superseded.
#[derive(Debug, Default, Clone)]
pub(super) struct Turns {
    lines: Arc<Mutex<Lines<oneshot::Sender<()>>>>,
}

/// A request's entry; removed when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    session: String,
    id: RequestId,
}

/// Resolves when a newer request supersedes this one; fails once that cannot happen any more.
pub(super) type GaveWay = oneshot::Receiver<()>;

impl Turns {
    /// Add the newest request of a session.
    pub fn enter(&self, session: String) -> (Turn, GaveWay) {
        let (tell, gave_way) = oneshot::channel();
        let (id, gone) = self.lines().enter(&session, tell);
        for tell in gone {
            // Fails if the request has finished.
            let _ = tell.send(());
        }
        let turns = self.clone();
        (Turn { turns, session, id }, gave_way)
    }

    fn lines(&self) -> MutexGuard<'_, Lines<oneshot::Sender<()>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    pub fn note(&self, progress: Progress) {
        let gone = self.turns.lines().note(&self.session, self.id, progress);
        if let Some(tell) = gone {
            // The request itself waits for it.
            let _ = tell.send(());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lines().leave(&self.session, self.id);
    }
}
