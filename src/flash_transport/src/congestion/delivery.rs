//! How fast a path delivers what is sent, and the queue that a message finds in it.

use std::time::{Duration, Instant};

use super::recent::Recent;

/// Smaller packets are probes and acknowledgements, which say nothing about a rate. Every path of
/// QUIC carries packets of 1,200 bytes.
const FULL_PACKET: u64 = 1_000;
/// Smaller flights are not measured: the pauses between a few acknowledgements are the computers'.
const MEASURED_BYTES: u64 = 8_000;
/// A packet that left later than the one before it by this many round trips begins a new flight. The
/// answer to a message takes a round trip; the pauses of a sender that waits for its window are
/// shorter, because quinn paces.
const PAUSE: f64 = 0.75;
/// ... and by at least this.
const LEAST_PAUSE: Duration = Duration::from_micros(500);
/// What an earlier flight counts beside the next one. A flight counts by its bytes, so that one large
/// message outweighs small ones, whose times are mostly the computers'.
const MEMORY: f64 = 0.6;
/// Earlier flights than this before the next do not count: the path may be another by now.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// No flight counts as faster: acknowledgements that came at once would be an endless rate.
const FASTEST_BITS_PER_SECOND: f64 = 10e9;

/// What a client knows of the path to its server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkEstimate {
    /// Smoothed.
    pub round_trip: Duration,
    /// At which the latest messages were delivered, retransmissions included. A lower bound where
    /// they were small, or paced below what the path carries. `None`: no message was large enough.
    pub bits_per_second: Option<f64>,
    /// What the first packet of the latest message waited longer than the fastest of the last
    /// seconds.
    pub queue: Duration,
}

/// Measures flights: packets that leave one behind the other, as those of a message do.
#[derive(Debug, Clone, Default)]
pub(super) struct Delivery {
    base: Recent<Duration>,
    flight: Option<Flight>,
    /// Of the flights before, weighted by age.
    bytes: f64,
    seconds: f64,
    queue: Duration,
    /// When the latest of them ended.
    counted_at: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Flight {
    first_sent: Instant,
    last_sent: Instant,
    last_acknowledged: Instant,
    fastest: Duration,
    /// Behind the first packet.
    bytes: u64,
}

impl Flight {
    /// How long its bytes took behind the first packet; `None` if there are too few.
    fn seconds(&self) -> Option<f64> {
        if self.bytes < MEASURED_BYTES {
            return None;
        }
        let whole = self
            .last_acknowledged
            .saturating_duration_since(self.first_sent);
        let seconds = whole.saturating_sub(self.fastest).as_secs_f64();
        Some(seconds.max(8.0 * self.bytes as f64 / FASTEST_BITS_PER_SECOND))
    }
}

impl Delivery {
    pub fn acknowledged(&mut self, now: Instant, sent: Instant, bytes: u64) {
        if bytes < FULL_PACKET {
            return;
        }
        let sample = now.saturating_duration_since(sent);
        self.base.add(now, sample, Duration::min);
        let pause = self.base().mul_f64(PAUSE).max(LEAST_PAUSE);
        if let Some(flight) = &mut self.flight {
            if sent <= flight.last_sent + pause {
                flight.first_sent = flight.first_sent.min(sent);
                flight.last_sent = flight.last_sent.max(sent);
                flight.last_acknowledged = now;
                flight.fastest = flight.fastest.min(sample);
                flight.bytes += bytes;
                return;
            }
        }
        let next = Flight {
            first_sent: sent,
            last_sent: sent,
            last_acknowledged: now,
            fastest: sample,
            bytes: 0,
        };
        if let Some(ended) = self.flight.replace(next) {
            self.count(&ended);
        }
    }

    fn count(&mut self, flight: &Flight) {
        if let Some(seconds) = flight.seconds() {
            let since = |at| flight.first_sent.saturating_duration_since(at);
            let is_fresh = self.counted_at.is_some_and(|at| since(at) < FORGOTTEN);
            let memory = if is_fresh { MEMORY } else { 0.0 };
            self.bytes = self.bytes * memory + flight.bytes as f64;
            self.seconds = self.seconds * memory + seconds;
            self.counted_at = Some(flight.last_acknowledged);
            self.queue = flight.fastest.saturating_sub(self.base());
        }
    }

    /// The estimate of a path with this smoothed round trip. The latest flight counts as ended.
    pub fn estimate(&self, round_trip: Duration) -> LinkEstimate {
        let mut counted = self.clone();
        if let Some(flight) = &self.flight {
            counted.count(flight);
        }
        LinkEstimate {
            round_trip,
            bits_per_second: (counted.seconds > 0.0).then(|| 8.0 * counted.bytes / counted.seconds),
            queue: counted.queue,
        }
    }

    fn base(&self) -> Duration {
        self.base.get(Duration::min).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(20);
    const PACKET: u64 = 1_200;
    const MEGABITS: f64 = 1e6;

    /// A path of 20 ms at a rate, behind a queue.
    struct Line {
        delivery: Delivery,
        now: Instant,
    }

    impl Line {
        fn new() -> Self {
            Self {
                delivery: Delivery::default(),
                now: Instant::now(),
            }
        }

        /// A message whose packets all leave at once; returns the rate that is estimated then.
        fn message(&mut self, packets: u32, bits_per_second: f64, queue: Duration) -> f64 {
            let each = Duration::from_secs_f64(8.0 * PACKET as f64 / bits_per_second);
            let mut acknowledged = self.now;
            for number in 1..=packets {
                acknowledged = self.now + ROUND_TRIP + queue + each * number;
                self.packet(acknowledged, self.now, PACKET);
            }
            self.now = acknowledged;
            self.rate()
        }

        fn packet(&mut self, acknowledged: Instant, sent: Instant, bytes: u64) {
            self.delivery.acknowledged(acknowledged, sent, bytes);
        }

        fn rate(&self) -> f64 {
            let estimate = self.delivery.estimate(ROUND_TRIP);
            estimate.bits_per_second.unwrap_or(0.0)
        }
    }

    fn near(value: f64, expected: f64) -> bool {
        (value / expected - 1.0).abs() < 0.01
    }

    #[test]
    fn the_rate_is_that_at_which_a_message_is_acknowledged() {
        for megabits in [1.0, 20.0, 1000.0] {
            let mut line = Line::new();
            for packets in [40, 400] {
                let rate = line.message(packets, megabits * MEGABITS, Duration::ZERO);
                assert!(near(rate, megabits * MEGABITS), "{rate}");
            }
        }
    }

    #[test]
    fn nothing_is_estimated_of_a_few_packets() {
        let mut line = Line::new();
        assert_eq!(line.message(5, MEGABITS, Duration::ZERO), 0.0);
        let estimate = line.delivery.estimate(ROUND_TRIP);
        assert_eq!(estimate.bits_per_second, None);
    }

    #[test]
    fn a_queue_of_others_is_no_slower_path() {
        let mut line = Line::new();
        line.message(40, 100.0 * MEGABITS, Duration::ZERO);
        let queue = Duration::from_millis(30);
        let rate = line.message(40, 100.0 * MEGABITS, queue);
        assert!(near(rate, 100.0 * MEGABITS), "{rate}");
        assert_eq!(line.delivery.estimate(ROUND_TRIP).queue, queue);
        line.message(40, 100.0 * MEGABITS, Duration::ZERO);
        assert_eq!(line.delivery.estimate(ROUND_TRIP).queue, Duration::ZERO);
    }

    #[test]
    fn a_large_message_outweighs_small_ones_before_it() {
        let mut line = Line::new();
        for _ in 0..10 {
            line.message(40, 50.0 * MEGABITS, Duration::ZERO);
        }
        let rate = line.message(400, 500.0 * MEGABITS, Duration::ZERO);
        assert!(rate > 200.0 * MEGABITS, "{rate}");
        let rate = line.message(400, 20.0 * MEGABITS, Duration::ZERO);
        assert!(rate < 40.0 * MEGABITS, "{rate}");
    }

    #[test]
    fn what_was_measured_long_before_does_not_count() {
        let mut line = Line::new();
        line.message(400, MEGABITS, Duration::ZERO);
        line.now += FORGOTTEN;
        let rate = line.message(40, 100.0 * MEGABITS, Duration::ZERO);
        assert!(near(rate, 100.0 * MEGABITS), "{rate}");
    }

    #[test]
    fn a_probe_behind_a_message_does_not_count() {
        let mut line = Line::new();
        line.message(40, 100.0 * MEGABITS, Duration::ZERO);
        let sent = line.now - ROUND_TRIP / 2;
        line.packet(line.now + ROUND_TRIP / 2, sent, 60);
        let rate = line.rate();
        assert!(near(rate, 100.0 * MEGABITS), "{rate}");
    }

    #[test]
    fn a_packet_that_is_sent_again_after_a_round_trip_does_not_count() {
        let mut line = Line::new();
        line.message(40, 100.0 * MEGABITS, Duration::ZERO);
        let sent = line.now;
        line.packet(sent + ROUND_TRIP, sent, PACKET);
        let rate = line.rate();
        assert!(near(rate, 100.0 * MEGABITS), "{rate}");
    }

    #[test]
    fn a_message_that_is_still_under_way_counts_by_what_has_arrived() {
        let mut line = Line::new();
        let rate = line.message(30, MEGABITS, Duration::ZERO);
        assert!(near(rate, MEGABITS), "{rate}");
    }
}
