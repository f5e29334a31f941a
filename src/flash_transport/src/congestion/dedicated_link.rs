//! For a link that nobody else uses: a window, or a rate, that loss does not change.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use super::delivery::{Delivery, LinkEstimate};

/// Least packets in flight under a rate cap, however short the path: with fewer, acknowledgements
/// would be the limit.
const LEAST_PACKETS: u64 = 10;
/// quinn paces at 1.25 windows per round trip; with this factor that is the configured rate.
const WINDOW_PER_RATE: f64 = 0.8;
/// Assumed until the first round trip is measured.
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(50);

/// How much to send on a link that nobody else uses. Wrong on any other link: neither loss nor a
/// queue slows this down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedicatedLinkConfig {
    /// Most bytes in flight.
    pub window: u64,
    /// Bits per second, not exceeded over more than a few milliseconds; a transfer of many round
    /// trips reaches four fifths of it. `None`: only the window limits.
    pub bits_per_second: Option<u64>,
}

impl Default for DedicatedLinkConfig {
    /// A window of 16 MiB is 1 Gb/s at 134 ms, and sends a request of 452 KB in 1/46 of a round trip.
    fn default() -> Self {
        Self {
            window: 16 << 20,
            bits_per_second: None,
        }
    }
}

impl ControllerFactory for DedicatedLinkConfig {
    fn build(self: Arc<Self>, _now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(DedicatedLink::new(self, current_mtu))
    }
}

/// A fixed window, or the one that a fixed rate needs. Only persistent congestion (RFC 9002,
/// section 7.6) shrinks it, to two packets; it then doubles with each round trip.
#[derive(Debug, Clone)]
pub struct DedicatedLink {
    config: Arc<DedicatedLinkConfig>,
    round_trip: Duration,
    /// The window while it recovers from persistent congestion.
    recovering: Option<u64>,
    segment: u64,
    delivery: Delivery,
}

impl DedicatedLink {
    pub fn new(config: Arc<DedicatedLinkConfig>, current_mtu: u16) -> Self {
        Self {
            config,
            round_trip: FIRST_ROUND_TRIP,
            recovering: None,
            segment: u64::from(current_mtu),
            delivery: Delivery::default(),
        }
    }

    /// What is known of the path, whose smoothed round trip is given.
    pub fn estimate(&self, round_trip: Duration) -> LinkEstimate {
        self.delivery.estimate(round_trip)
    }

    fn acknowledged(&mut self, bytes: u64, round_trip: Duration) {
        self.round_trip = round_trip;
        self.recovering = self
            .recovering
            .map(|window| window + bytes)
            .filter(|window| *window < self.full_window());
    }

    fn congested(&mut self, persistent: bool) {
        if persistent {
            self.recovering = Some(2 * self.segment);
        }
    }

    fn full_window(&self) -> u64 {
        let least = LEAST_PACKETS * self.segment;
        let Some(bits_per_second) = self.config.bits_per_second else {
            return self.config.window.max(least);
        };
        let in_flight = bits_per_second as f64 / 8.0 * self.round_trip.as_secs_f64();
        ((in_flight * WINDOW_PER_RATE) as u64)
            .min(self.config.window)
            .max(least)
    }
}

impl Controller for DedicatedLink {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        _app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.delivery.acknowledged(now, sent, bytes);
        self.acknowledged(bytes, rtt.get());
    }

    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        is_persistent_congestion: bool,
        _lost_bytes: u64,
    ) {
        self.congested(is_persistent_congestion);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.segment = u64::from(new_mtu);
    }

    fn window(&self) -> u64 {
        self.recovering.unwrap_or_else(|| self.full_window())
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics.pacing_rate = self.config.bits_per_second;
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.full_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1_200;

    fn link(bits_per_second: Option<u64>) -> DedicatedLink {
        let config = DedicatedLinkConfig {
            bits_per_second,
            ..DedicatedLinkConfig::default()
        };
        DedicatedLink::new(Arc::new(config), SEGMENT as u16)
    }

    #[test]
    fn loss_does_not_shrink_the_window() {
        let mut link = link(None);
        link.congested(false);
        assert_eq!(link.window(), 16 << 20);
    }

    #[test]
    fn a_rate_becomes_the_window_that_quinn_paces_at_that_rate() {
        let mut link = link(Some(100_000_000));
        link.acknowledged(SEGMENT, Duration::from_millis(20));
        // 100 Mb/s x 20 ms = 250,000 bytes; 1.25 windows of 200,000 leave per round trip.
        assert_eq!(link.window(), 200_000);
    }

    #[test]
    fn a_rate_on_the_shortest_path_leaves_ten_packets() {
        let mut link = link(Some(1_000_000));
        link.acknowledged(SEGMENT, Duration::from_micros(100));
        assert_eq!(link.window(), 10 * SEGMENT);
    }

    #[test]
    fn silence_costs_the_window_which_doubles_with_each_round_trip_after() {
        let mut link = link(None);
        link.congested(true);
        assert_eq!(link.window(), 2 * SEGMENT);
        let window = link.window();
        link.acknowledged(window, Duration::from_millis(20));
        assert_eq!(link.window(), 4 * SEGMENT);
        link.acknowledged(16 << 20, Duration::from_millis(20));
        assert_eq!(link.window(), 16 << 20);
    }
}
