//! The default congestion controller: starts at full rate, ignores random loss, yields to queues.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use super::delivery::{Delivery, LinkEstimate};
use super::growth::{Growth, BETA};
use super::path::{Overflow, Path};
use super::silence::Silence;
use crate::repair::PathLoss;

/// On a path that reorders packets, heavy loss leaves room for at least this many of the largest
/// recent flights. At a lower rate fewer packets overtake each other, and quinn's receiver takes those
/// that more than 128 have overtaken for copies: with 2.5, repair is too little for them.
const REORDERING_FLIGHTS: f64 = 2.1;
/// A single cut leaves at least this share.
const LEAST_LEFT: f64 = 0.3;
/// Share of what fitted into an empty queue that the window gets after an overflow, so that it
/// takes seconds to grow back to what does not fit. RTT 20 ms, 100 Mb/s, a queue of one round trip:
/// with 1.0 one request of three overflows again, with 0.72 one of six. Beside a download on
/// 50 Mb/s: 0.9 leaves the download 24.3 Mb/s, 0.72 leaves it 26.8.
const BELOW_OVERFLOW: f64 = 0.72;

/// The least window, as the initial one of RFC 9002, section 7.2, which recommends 2. An answer of
/// five packets and the probes behind it have to fit: with 2, probes wait until the lost packets are
/// acknowledged, and one burst of loss can end a connection.
const LEAST_PACKETS: u64 = 10;

/// Bytes of window per second of round trip that are paced at a gigabit per second, which a robot's
/// Ethernet carries.
const FIRST_RATE: f64 = 1e9 / 8.0 / 1.25;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyFirstConfig {
    /// Bytes in flight before anything is known about the path; a pause does not shrink the window.
    /// quinn paces at 1.25 windows per round trip: a request leaves in one flight, but the larger
    /// its share of the window, the later its end. 452 KB at 80 ms take 107 ms with 1 MiB, 93 with
    /// 2 MiB, 86.5 with 4 MiB, 83.8 with 8 MiB, which is what the wire needs. Price: on a narrow path
    /// the first request fills the queue.
    pub initial_window: u64,
    /// The same once the round trip is known: as many as are paced at [`FIRST_RATE`], up to this.
    pub largest_initial_window: u64,
    /// Most bytes in flight on a path of less than 2 ms: as many as the peer's socket buffer holds.
    /// On such a path a flight is in that buffer before the reader wakes up; on a longer one the
    /// link's rate spreads it out. A smaller window costs time on short paths only if
    /// acknowledgements are late: for 452 KB on loopback 208 KiB take 10 % longer than 4 MiB.
    pub short_path_window: u64,
}

impl Default for LatencyFirstConfig {
    fn default() -> Self {
        Self {
            initial_window: 4 << 20,
            largest_initial_window: 8 << 20,
            short_path_window: u64::MAX,
        }
    }
}

impl ControllerFactory for LatencyFirstConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(LatencyFirst::new(self, now, current_mtu))
    }
}

/// A window that random loss does not shrink.
///
/// It is cut as CUBIC's (RFC 9438) if packets are lost while a queue stands in the path, are marked
/// (ECN), or are lost heavily again and again; to what got through if a burst overflows a queue; to
/// ten packets in persistent congestion. On a path that also loses where no queue is full, loss
/// alone does not cut it below what a recent round brought through.
#[derive(Debug, Clone)]
pub struct LatencyFirst {
    config: Arc<LatencyFirstConfig>,
    window: u64,
    /// What the window is before the first cut.
    initial: u64,
    /// Below this the window grows by all acknowledged bytes (slow start).
    slow_start_below: u64,
    growth: Option<Growth>,
    path: Path,
    /// A loss of packets sent before this was answered with a cut already.
    cut_at: Option<Instant>,
    segment: u64,
    silence: Silence,
    delivery: Delivery,
}

impl LatencyFirst {
    pub fn new(config: Arc<LatencyFirstConfig>, now: Instant, current_mtu: u16) -> Self {
        let segment = u64::from(current_mtu);
        let initial = config.initial_window.max(LEAST_PACKETS * segment);
        Self {
            window: initial,
            initial,
            config,
            slow_start_below: u64::MAX,
            growth: None,
            path: Path::new(now),
            cut_at: None,
            segment,
            silence: Silence::default(),
            delivery: Delivery::default(),
        }
    }

    /// What the path lost at random, for repair.
    pub fn loss(&self) -> PathLoss {
        self.path.loss()
    }

    /// What is known of the path, whose smoothed round trip is given.
    pub fn estimate(&self, round_trip: Duration) -> LinkEstimate {
        self.delivery.estimate(round_trip)
    }

    fn acknowledged(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        round_trip: Duration,
    ) {
        if let Some(overflow) = self.path.acknowledged(now, sent, bytes) {
            self.overflowed(now, overflow, app_limited);
        }
        self.widen();
        let recovering = self.cut_at.is_some_and(|cut| sent <= cut);
        // A window that was not filled is not proven and does not grow, except up to the initial
        // window.
        let unused = app_limited || self.window() < self.window;
        let unproven = unused && self.window >= self.initial;
        if !recovering && !unproven {
            self.grow(now, bytes, round_trip);
        }
    }

    /// Start at full rate on a long path, too.
    fn widen(&mut self) {
        let Some(round_trip) = self.path.shortest().filter(|_| self.cut_at.is_none()) else {
            return;
        };
        let full_rate = (round_trip.as_secs_f64() * FIRST_RATE) as u64;
        let least = self.config.initial_window.max(self.least_window());
        self.initial = full_rate.min(self.config.largest_initial_window).max(least);
        self.window = self.window.max(self.initial);
    }

    fn grow(&mut self, now: Instant, bytes: u64, round_trip: Duration) {
        if self.window < self.slow_start_below {
            if !self.path.queue_stands() {
                self.window = self.window.saturating_add(bytes);
                return;
            }
            self.slow_start_below = self.window;
        }
        let (window, segment) = (self.window, self.segment);
        let growth = self
            .growth
            .get_or_insert_with(|| Growth::new(now, window, window, None, segment));
        self.window = growth.next(now, round_trip, window, bytes, segment);
    }

    fn congested(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        self.path.lost(sent, lost_bytes);
        if persistent {
            self.cut(now, self.window as f64 * BETA);
            self.window = self.least_window();
            return;
        }
        if self.cut_at.is_some_and(|cut| sent <= cut) {
            return;
        }
        let window = self.window as f64;
        let marked = lost_bytes == 0;
        if marked || self.path.queue_stands() {
            let through = 1.0 - self.path.loss_share();
            self.cut(now, window * through.clamp(LEAST_LEFT, BETA));
        } else if self.path.keeps_losing_heavily() && self.path.loses_heavily() {
            let flight = self.path.largest_round() as f64;
            if self.path.reorders() {
                let least = REORDERING_FLIGHTS * flight;
                self.cut(now, (window * BETA).max(least.min(window)));
            } else {
                let proven = self.path.proven() as f64;
                self.cut(now, (window.min(flight) * BETA).max(proven.min(window)));
            }
        }
    }

    fn overflowed(&mut self, now: Instant, overflow: Overflow, app_limited: bool) {
        let flight = self.window.min(self.path.largest_round());
        let measured = app_limited && overflow.was_empty;
        let through = match measured {
            true => overflow.through_of_two,
            false => overflow.through,
        };
        let through = through.max(self.path.proven());
        let left = (through as f64).max(LEAST_LEFT * flight as f64);
        if left >= self.window as f64 {
            return;
        }
        if measured {
            // The request found an empty queue, so the next one fits up to this. The old window was
            // a guess: grown back to it within two seconds, two requests of three would overflow
            // again.
            self.window = left as u64;
            self.growth = None;
            self.cut(now, left * BELOW_OVERFLOW);
        } else {
            self.cut(now, left);
        }
    }

    fn cut(&mut self, now: Instant, left: f64) {
        let before = self.window;
        self.window = (left as u64).max(self.least_window());
        self.slow_start_below = self.window;
        let last_largest = self
            .growth
            .as_ref()
            .map(|growth| growth.largest(self.segment));
        let growth = Growth::new(now, self.window, before, last_largest, self.segment);
        self.growth = Some(growth);
        self.cut_at = Some(now);
    }

    fn least_window(&self) -> u64 {
        LEAST_PACKETS * self.segment
    }
}

impl Controller for LatencyFirst {
    fn on_sent(&mut self, now: Instant, _bytes: u64, _last_packet_number: u64) {
        self.silence.sent(now);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.silence.acknowledged(rtt.get());
        self.delivery.acknowledged(now, sent, bytes);
        self.acknowledged(now, sent, bytes, app_limited, rtt.get());
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.congested(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.segment = u64::from(new_mtu);
        self.window = self.window.max(self.least_window());
    }

    fn window(&self) -> u64 {
        match self.path.is_short() {
            true => self
                .window
                .min(self.config.short_path_window.max(self.least_window())),
            false => self.window + self.silence.packets() * self.segment,
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics.ssthresh = Some(self.slow_start_below);
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.config.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1_200;
    const INITIAL: u64 = 4 << 20;
    const ROUND_TRIP: Duration = Duration::from_millis(20);

    /// A controller on a path whose delays and losses the test chooses.
    struct Flow {
        controller: LatencyFirst,
        now: Instant,
    }

    impl Flow {
        fn new() -> Self {
            Self::with(LatencyFirstConfig::default())
        }

        fn with(config: LatencyFirstConfig) -> Self {
            let now = Instant::now();
            let controller = LatencyFirst::new(Arc::new(config), now, SEGMENT as u16);
            Self { controller, now }
        }

        /// Send a flight of `packets`; every `losing`th is lost, the others take `round_trip`.
        fn round(
            &mut self,
            packets: u32,
            losing: Option<u32>,
            round_trip: Duration,
            app_limited: bool,
        ) {
            self.now += Duration::from_millis(1);
            let sent = self.now;
            self.now += round_trip;
            for number in 1..=packets {
                if losing.is_some_and(|every| number % every == 0) {
                    self.controller.congested(self.now, sent, false, SEGMENT);
                } else {
                    self.controller
                        .acknowledged(self.now, sent, SEGMENT, app_limited, round_trip);
                }
            }
        }

        /// A flight of which every second packet is lost; the queue that loses them grows from nothing to a round trip.
        fn overflow_an_empty_queue(&mut self, packets: u32) {
            self.now += Duration::from_millis(1);
            let sent = self.now;
            for number in 0..packets / 2 {
                self.now = sent + ROUND_TRIP + ROUND_TRIP * number / (packets / 2);
                self.controller
                    .acknowledged(self.now, sent, SEGMENT, true, ROUND_TRIP);
                self.controller.congested(self.now, sent, false, SEGMENT);
            }
        }

        fn window(&self) -> u64 {
            self.controller.window
        }

        /// A queue of 10 ms, seen by a few rounds, on a path without jitter.
        fn fill_the_queue(&mut self) {
            for _ in 0..3 {
                self.round(320, None, ROUND_TRIP, true);
            }
            for _ in 0..4 {
                self.round(320, None, ROUND_TRIP + Duration::from_millis(10), true);
            }
        }
    }

    #[test]
    fn loss_of_two_percent_leaves_the_window_as_it_is() {
        let mut flow = Flow::new();
        for _ in 0..1_000 {
            flow.round(320, Some(50), ROUND_TRIP, true);
        }
        assert_eq!(flow.window(), INITIAL);
    }

    #[test]
    fn a_fade_that_takes_a_whole_flight_leaves_the_window_as_it_is() {
        let mut flow = Flow::new();
        flow.round(320, None, ROUND_TRIP, true);
        flow.round(320, Some(1), ROUND_TRIP, true);
        flow.round(320, None, ROUND_TRIP, true);
        assert_eq!(flow.window(), INITIAL);
    }

    #[test]
    fn a_loss_while_a_queue_stands_leaves_seven_tenths() {
        let mut flow = Flow::new();
        flow.fill_the_queue();
        flow.round(320, Some(300), ROUND_TRIP + Duration::from_millis(10), true);
        assert_eq!(flow.window(), (INITIAL as f64 * 0.7) as u64);
    }

    #[test]
    fn losses_of_one_flight_cut_once() {
        let mut flow = Flow::new();
        flow.fill_the_queue();
        flow.round(320, Some(40), ROUND_TRIP + Duration::from_millis(10), true);
        assert_eq!(flow.window(), (INITIAL as f64 * 0.7) as u64);
    }

    #[test]
    fn a_flight_of_which_half_is_lost_in_a_queue_is_cut_to_what_got_through() {
        let mut flow = Flow::new();
        flow.fill_the_queue();
        flow.round(320, Some(2), ROUND_TRIP + Duration::from_millis(10), true);
        let left = flow.window() as f64 / INITIAL as f64;
        assert!((0.3..0.7).contains(&left), "{left}");
    }

    #[test]
    fn a_request_that_overflows_a_queue_leaves_less_than_what_fits_and_comes_back_to_it() {
        let mut flow = Flow::new();
        flow.round(320, None, ROUND_TRIP, true);
        flow.round(1, None, ROUND_TRIP, true);
        flow.overflow_an_empty_queue(320);
        flow.round(1, None, ROUND_TRIP, true);
        let fits = 160 * SEGMENT;
        assert_eq!(flow.window(), (fits as f64 * BELOW_OVERFLOW) as u64);
        for _ in 0..20 {
            flow.now += Duration::from_millis(500);
            flow.round(160, None, ROUND_TRIP, true);
        }
        let after_ten_seconds = flow.window() as f64 / fits as f64;
        assert!(
            (0.95..1.5).contains(&after_ten_seconds),
            "{after_ten_seconds}"
        );
    }

    #[test]
    fn heavy_loss_cuts_from_the_fourth_round_on_though_no_queue_stands() {
        let mut flow = Flow::new();
        for round in 0..5 {
            flow.round(320, Some(5), ROUND_TRIP, true);
            assert_eq!(flow.window() < INITIAL, round >= 3, "after round {round}");
        }
    }

    #[test]
    fn a_path_that_drops_all_but_little_gets_little() {
        let mut flow = Flow::new();
        for _ in 0..60 {
            flow.round(320, Some(2), ROUND_TRIP, false);
        }
        assert!(flow.window() < 50_000, "{}", flow.window());
    }

    #[test]
    fn a_congestion_mark_leaves_seven_tenths() {
        let mut flow = Flow::new();
        flow.round(320, None, ROUND_TRIP, true);
        let sent = flow.now + Duration::from_millis(1);
        flow.controller.congested(sent + ROUND_TRIP, sent, false, 0);
        assert_eq!(flow.window(), (INITIAL as f64 * 0.7) as u64);
    }

    #[test]
    fn persistent_congestion_leaves_ten_packets_which_double_up_to_seven_tenths() {
        let mut flow = Flow::new();
        flow.round(320, None, ROUND_TRIP, true);
        flow.controller.congested(flow.now, flow.now, true, SEGMENT);
        assert_eq!(flow.window(), 10 * SEGMENT);
        let mut rounds = 0;
        while flow.window() < 2 << 20 {
            flow.round((flow.window() / SEGMENT) as u32, None, ROUND_TRIP, false);
            rounds += 1;
        }
        assert_eq!(rounds, 8);
    }

    #[test]
    fn the_first_window_is_paced_at_a_gigabit_on_long_paths_and_no_wider_than_it_was_asked_to_be() {
        for (round_trip, largest, window) in [
            (20, 8 << 20, INITIAL),
            (60, 8 << 20, 6_000_000),
            (200, 8 << 20, 8 << 20),
            (200, 100_000, INITIAL),
        ] {
            let mut flow = Flow::with(LatencyFirstConfig {
                largest_initial_window: largest,
                ..LatencyFirstConfig::default()
            });
            flow.round(10, None, Duration::from_millis(round_trip), true);
            assert_eq!(flow.window(), window, "at {round_trip} ms");
        }
    }

    #[test]
    fn a_window_that_was_cut_is_not_widened_again() {
        let mut flow = Flow::new();
        let round_trip = Duration::from_millis(80);
        flow.round(320, None, round_trip, true);
        flow.controller.congested(flow.now, flow.now, true, SEGMENT);
        flow.round(1, None, round_trip, true);
        assert!(flow.window() <= 11 * SEGMENT, "{}", flow.window());
    }

    #[test]
    fn a_pause_of_an_hour_leaves_the_window_as_it_is() {
        let mut flow = Flow::new();
        flow.round(320, None, ROUND_TRIP, true);
        flow.now += Duration::from_secs(3_600);
        flow.round(320, Some(50), ROUND_TRIP, true);
        assert_eq!(flow.window(), INITIAL);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut flow = Flow::new();
        for _ in 0..100 {
            flow.round(320, None, ROUND_TRIP, true);
        }
        assert_eq!(flow.window(), INITIAL);
    }

    #[test]
    fn a_window_that_is_used_doubles_until_a_queue_stands() {
        let mut flow = Flow::new();
        for _ in 0..2 {
            flow.round((flow.window() / SEGMENT) as u32, None, ROUND_TRIP, false);
        }
        let doubled = flow.window();
        assert!(doubled > 15 << 20, "{doubled}");
        for _ in 0..10 {
            flow.round(1_000, None, ROUND_TRIP + Duration::from_millis(10), false);
        }
        assert!(flow.window() < doubled + (4 << 20), "{}", flow.window());
    }

    #[test]
    fn a_short_path_carries_no_more_at_once_than_a_socket_buffer_holds() {
        let config = LatencyFirstConfig {
            short_path_window: 208 << 10,
            ..LatencyFirstConfig::default()
        };
        for (round_trip, window) in [(1, 208 << 10), (20, INITIAL)] {
            let mut flow = Flow::with(config.clone());
            assert_eq!(flow.controller.window(), INITIAL, "before any round trip");
            for _ in 0..10 {
                flow.round(170, None, Duration::from_millis(round_trip), true);
            }
            assert_eq!(flow.controller.window(), window, "at {round_trip} ms");
        }
    }

    #[test]
    fn a_window_that_a_short_path_does_not_use_does_not_grow() {
        let mut flow = Flow::with(LatencyFirstConfig {
            short_path_window: 208 << 10,
            ..LatencyFirstConfig::default()
        });
        for _ in 0..10 {
            flow.round(170, None, Duration::from_millis(1), false);
        }
        assert!(flow.window() <= INITIAL + SEGMENT, "{}", flow.window());
    }

    #[test]
    fn a_cut_window_grows_back_though_requests_leave_it_unused() {
        let mut flow = Flow::new();
        flow.fill_the_queue();
        flow.round(320, Some(300), ROUND_TRIP + Duration::from_millis(10), true);
        let cut = flow.window();
        for _ in 0..600 {
            flow.now += Duration::from_millis(100);
            flow.round(320, None, ROUND_TRIP, true);
        }
        assert!(
            flow.window() > cut + cut / 5,
            "{} of {INITIAL}",
            flow.window()
        );
        assert!(flow.window() <= INITIAL + SEGMENT * 2, "{}", flow.window());
    }
}
