//! One round trip's worth of acknowledgements and losses, and whether a queue was behind its delays.

use std::time::{Duration, Instant};

/// A queue may have overflowed if the slowest packet took longer than the base by the base divided
/// by this, and by [`OVERFLOW_LEAST`].
const OVERFLOW_SHARE: u32 = 4;
const OVERFLOW_LEAST: Duration = Duration::from_millis(4);
/// The loss of smaller rounds is not judged: one packet of four is no rate.
const JUDGED_BYTES: u64 = 24_000;

/// Ends when a packet is acknowledged that was sent after the round began.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub began: Instant,
    pub fastest: Option<Duration>,
    pub slowest: Duration,
    pub acknowledged: u64,
    pub lost: u64,
    pub overtaken: u64,
    trend: Trend,
}

impl Round {
    pub fn new(began: Instant) -> Self {
        Self {
            began,
            fastest: None,
            slowest: Duration::ZERO,
            acknowledged: 0,
            lost: 0,
            overtaken: 0,
            trend: Trend::default(),
        }
    }

    /// Note the round trip of a packet that no later one has overtaken.
    pub fn measured(&mut self, sample: Duration) {
        self.fastest = Some(self.fastest.map_or(sample, |least| least.min(sample)));
        self.slowest = self.slowest.max(sample);
        self.trend.add(sample.as_secs_f64());
    }

    pub fn bytes(&self) -> u64 {
        self.lost + self.acknowledged
    }

    /// `None`: too few bytes to judge.
    pub fn loss_share(&self) -> Option<f64> {
        let bytes = self.bytes();
        (bytes >= JUDGED_BYTES).then(|| self.lost as f64 / bytes as f64)
    }

    /// How much longer than `base` the slowest packet took.
    pub fn waited(&self, base: Duration) -> Duration {
        self.slowest.saturating_sub(base)
    }

    /// Whether a packet was so slow that a queue may be the cause.
    pub fn may_have_queued(&self, base: Duration) -> bool {
        may_have_queued(self.waited(base), base)
    }

    /// Whether the delays are a queue's and not a radio's: a queue fills, drains, or was full all
    /// the time, while a radio's delay comes and goes from packet to packet.
    pub fn has_queued(&self, base: Duration) -> bool {
        let waited = self.waited(base);
        let filled_or_drained = self.trend.rise().abs() >= waited.as_secs_f64() / 2.0;
        let full = base + waited * 3 / 4;
        let was_full = self.fastest.is_some_and(|fastest| fastest >= full);
        self.may_have_queued(base) && (filled_or_drained || was_full)
    }
}

/// Whether a packet that waited so much longer than `base` may have stood in a queue.
pub(super) fn may_have_queued(wait: Duration, base: Duration) -> bool {
    wait >= (base / OVERFLOW_SHARE).max(OVERFLOW_LEAST)
}

/// A straight line through the round trips of a round, in the order of their acknowledgements.
#[derive(Debug, Clone, Default)]
struct Trend {
    samples: f64,
    sum: f64,
    /// Of each sample times its number.
    weighted: f64,
}

impl Trend {
    fn add(&mut self, sample: f64) {
        self.weighted += self.samples * sample;
        self.sum += sample;
        self.samples += 1.0;
    }

    /// How much higher the line ends than it begins, in seconds.
    fn rise(&self) -> f64 {
        let n = self.samples;
        if n < 2.0 {
            return 0.0;
        }
        // Least squares over the numbers 0 to n - 1: their mean is (n - 1) / 2, their variance
        // (n^2 - 1) / 12.
        let covariance = self.weighted / n - self.sum / n * (n - 1.0) / 2.0;
        covariance / ((n * n - 1.0) / 12.0) * (n - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(10);

    /// Whether a round of packets that took so many milliseconds longer than the base has queued.
    fn has_queued(waits: impl Iterator<Item = u32>) -> bool {
        let mut round = Round::new(Instant::now());
        for wait in waits {
            round.measured(BASE + wait * Duration::from_millis(1));
        }
        round.has_queued(BASE)
    }

    #[test]
    fn a_queue_that_fills_or_drains_is_one() {
        assert!(has_queued(0..20));
        assert!(has_queued((0..20).rev()));
        assert!(has_queued((0..40).map(|number| number.min(20))));
    }

    #[test]
    fn a_queue_that_is_full_all_the_time_is_one() {
        assert!(has_queued((0..40).map(|number| 18 + number % 3)));
    }

    #[test]
    fn delay_that_comes_and_goes_is_none() {
        assert!(!has_queued((0..40).map(|number| number * 7 % 20)));
        // A radio's packets wait for their predecessors.
        assert!(!has_queued((0..40).map(|number| if number < 2 {
            1
        } else {
            19
        })));
    }

    #[test]
    fn a_short_wait_is_none() {
        assert!(!has_queued(0..4));
    }

    #[test]
    fn the_trend_of_a_straight_line_is_its_rise() {
        let mut trend = Trend::default();
        for number in 0..11 {
            trend.add(3.0 + f64::from(number) / 2.0);
        }
        assert!((trend.rise() - 5.0).abs() < 1e-9, "{}", trend.rise());
    }
}
