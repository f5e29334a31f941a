//! The smallest or largest of the recent samples.

use std::time::{Duration, Instant};

/// A path may have changed since older samples were taken: what it has become is learnt within twice
/// this time.
const MEMORY: Duration = Duration::from_secs(10);

/// The extreme of the samples of the last [`MEMORY`], or of up to twice that.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent<T> {
    since: Option<Instant>,
    current: Option<T>,
    before: Option<T>,
}

impl<T: Copy> Recent<T> {
    /// `better` picks one of two samples: the smaller, or the larger.
    pub fn add(&mut self, now: Instant, sample: T, better: impl Fn(T, T) -> T) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) > MEMORY {
            self.since = Some(now);
            self.before = self.current.take();
        }
        self.current = Some(self.current.map_or(sample, |best| better(best, sample)));
    }

    pub fn get(&self, better: impl Fn(T, T) -> T) -> Option<T> {
        self.current.into_iter().chain(self.before).reduce(better)
    }
}
