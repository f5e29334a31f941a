//! A request that a thread waits for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::here::Here;
use super::reply::{Outcome, Reply, Waiter};

/// A request under way that a thread waits for. Dropping it cancels the request.
#[derive(Debug)]
pub struct Pending(Way);

#[derive(Debug)]
enum Way {
    /// The IO thread carries the request.
    Elsewhere(Waiter),
    /// The waiting thread carries it.
    Here(Box<Mutex<Here>>),
}

impl Pending {
    pub(super) fn elsewhere(waiter: Waiter) -> Self {
        Self(Way::Elsewhere(waiter))
    }

    pub(super) fn here(here: Here) -> Self {
        Self(Way::Here(Box::new(Mutex::new(here))))
    }

    /// A request of a closed or forked client, which has failed already.
    pub(super) fn over(server: &str) -> Self {
        Self::elsewhere(Reply::to_waiter(server).1)
    }

    /// Wait up to `slice`; `None` if there is no answer yet. To be called until it returns `Some`.
    pub fn wait(&self, slice: Duration) -> Option<Outcome> {
        match &self.0 {
            Way::Here(here) => here
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .wait(slice),
            Way::Elsewhere(waiter) => waiter.wait(slice),
        }
    }

    /// Wait for the answer.
    pub fn wait_long(&self) -> Outcome {
        loop {
            if let Some(outcome) = self.wait(Duration::from_secs(3600)) {
                return outcome;
            }
        }
    }
}
