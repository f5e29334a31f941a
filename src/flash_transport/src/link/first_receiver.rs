//! Takes the first actions of one request's answer.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::first_actions;
use crate::buffers::Buffer;

/// First actions that have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Since the request was asked for.
    pub after: Duration,
    /// Of the map.
    pub bytes: usize,
}

/// Passes the first actions of an answer on, once at most.
#[derive(Clone)]
pub struct FirstReceiver(Arc<Inner<dyn Fn(Buffer) + Send + Sync>>);

struct Inner<F: ?Sized> {
    steps: Option<u32>,
    asked: Instant,
    arrived: Mutex<Option<Arrived>>,
    take: F,
}

impl FirstReceiver {
    /// `take` gets the map, on the thread that reads answers, and must not block. With `steps` the
    /// map is checked to hold as many.
    pub fn new(
        steps: Option<u32>,
        asked: Instant,
        take: impl Fn(Buffer) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            steps,
            asked,
            arrived: Mutex::default(),
            take,
        }))
    }

    /// Pass `map` on. The error says why it is not valid.
    pub(crate) fn receive(&self, map: Buffer) -> Result<(), String> {
        let mut arrived = self.lock();
        let problem = match (*arrived, self.0.steps) {
            (Some(_), _) => Some("they came twice".to_owned()),
            (None, Some(steps)) => first_actions::check(&map, steps).err(),
            (None, None) => None,
        };
        if let Some(problem) = problem {
            return Err(format!("the first actions are not valid: {problem}"));
        }
        *arrived = Some(Arrived {
            after: self.0.asked.elapsed(),
            bytes: map.len(),
        });
        drop(arrived);
        (self.0.take)(map);
        Ok(())
    }

    /// The first actions that were passed on.
    pub fn arrived(&self) -> Option<Arrived> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arrived>> {
        self.0
            .arrived
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for FirstReceiver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut receiver = formatter.debug_struct("FirstReceiver");
        receiver
            .field("steps", &self.0.steps)
            .field("arrived", &self.arrived())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_first_map_is_passed_on_and_a_second_is_an_error() {
        let (sender, taken) = channel();
        let receiver = FirstReceiver::new(None, Instant::now(), move |map| {
            sender.send(map.to_vec()).unwrap();
        });
        assert_eq!(receiver.arrived(), None);
        assert_eq!(receiver.receive(vec![0x80].into()), Ok(()));
        assert_eq!(taken.try_recv(), Ok(vec![0x80]));
        assert_eq!(receiver.arrived().map(|arrived| arrived.bytes), Some(1));
        let error = receiver.receive(vec![0x80].into()).unwrap_err();
        assert!(error.contains("twice"), "{error}");
        assert!(taken.try_recv().is_err());
    }

    #[test]
    fn a_map_without_the_steps_is_not_passed_on() {
        let take = |_: Buffer| panic!("not valid");
        let receiver = FirstReceiver::new(Some(3), Instant::now(), take);
        assert!(receiver.receive(vec![0x80].into()).is_err());
        assert_eq!(receiver.arrived(), None);
    }
}
