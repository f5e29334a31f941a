//! The pings to one client, and what they measure.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lock::lock;

#[derive(Debug)]
pub(super) struct Pings {
    /// The client's name.
    pub client: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    number: u64,
    /// When the one was sent that is not answered.
    sent: Option<Instant>,
    round_trip: Option<Duration>,
}

impl Pings {
    pub fn new(client: Arc<str>) -> Self {
        Self {
            client,
            state: Mutex::default(),
        }
    }

    /// The next ping's payload; `None` while one is not answered.
    pub fn begin(&self, now: Instant) -> Option<Vec<u8>> {
        let mut state = lock(&self.state);
        if state.sent.is_some() {
            return None;
        }
        state.number += 1;
        state.sent = Some(now);
        Some(state.number.to_be_bytes().to_vec())
    }

    pub fn end(&self, payload: &[u8], now: Instant) {
        let mut state = lock(&self.state);
        if payload == state.number.to_be_bytes() {
            if let Some(sent) = state.sent.take() {
                state.round_trip = Some(now.saturating_duration_since(sent));
            }
        }
    }

    /// The time of the last ping that was answered.
    pub fn round_trip(&self) -> Option<Duration> {
        lock(&self.state).round_trip
    }
}
