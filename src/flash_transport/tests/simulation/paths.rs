//! The paths that requests are measured on.

use std::time::Duration;

use crate::link::{Jitter, LinkSpec, Loss};

pub const MILLISECOND: Duration = Duration::from_millis(1);
pub const GIGABIT: u64 = 1_000_000_000;

/// Both directions between a robot and its server.
#[derive(Debug, Clone)]
pub struct PathSpec {
    pub up: LinkSpec,
    pub down: LinkSpec,
}

impl PathSpec {
    /// A clean gigabit path with a queue that nothing of ours fills.
    pub fn clean(round_trip: Duration) -> Self {
        let link = LinkSpec {
            one_way: round_trip / 2,
            bits_per_second: GIGABIT,
            queue_bytes: 8 << 20,
            loss: Loss::None,
            jitter: Jitter::None,
            payload_limit: 1472,
        };
        Self {
            up: link.clone(),
            down: link,
        }
    }

    /// With frames of 9000 bytes all the way.
    pub fn with_jumbo_frames(mut self) -> Self {
        self.up.payload_limit = 8972;
        self.down.payload_limit = 8972;
        self
    }

    /// The same in both directions, so that answers and acknowledgements suffer too.
    pub fn with_loss(mut self, loss: Loss) -> Self {
        self.up.loss = loss;
        self.down.loss = loss;
        self
    }

    pub fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.up.jitter = jitter;
        self.down.jitter = jitter;
        self
    }

    /// Both directions at this rate, with queues of so many round trips at that rate.
    pub fn with_rate(mut self, bits_per_second: u64, queue_round_trips: f64) -> Self {
        let round_trip = 2 * self.up.one_way;
        let in_flight = bits_per_second as f64 / 8.0 * round_trip.as_secs_f64();
        for link in [&mut self.up, &mut self.down] {
            link.bits_per_second = bits_per_second;
            link.queue_bytes = ((in_flight * queue_round_trips) as u64).max(4 * 1500);
        }
        self
    }
}
