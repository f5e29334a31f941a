//! How a window grows again after a cut: the curve of CUBIC (RFC 9438), so that we regain bandwidth
//! as fast as other flows.

use std::time::{Duration, Instant};

/// The share of the window that a cut leaves: RFC 9438, section 4.6.
pub(super) const BETA: f64 = 0.7;
/// CUBIC's constant C, half of the RFC's 0.4 because quinn's CUBIC rounds its growth down: beside
/// it, on a path of 80 ms, 0.4 takes 60 % of the bottleneck and 0.2 takes 52 %.
const STEEPNESS: f64 = 0.2;

#[derive(Debug, Clone)]
pub(super) struct Growth {
    began: Instant,
    /// `W_max` of the RFC. Windows are in segments here, as in the RFC.
    largest: f64,
    /// `K` of the RFC: seconds until the curve is back at `largest`.
    plateau: f64,
    /// `W_est` of the RFC: the window that Reno would have.
    friendly: f64,
}

impl Growth {
    /// Begin at `window` bytes, cut from `before`.
    ///
    /// A window that is cut before it was back at `last_largest` leaves room for a new flow (RFC
    /// 9438, section 4.7, fast convergence).
    pub fn new(
        now: Instant,
        window: u64,
        before: u64,
        last_largest: Option<u64>,
        segment: u64,
    ) -> Self {
        let gives_way = last_largest.is_some_and(|largest| before < largest);
        let largest = before as f64 * if gives_way { (1.0 + BETA) / 2.0 } else { 1.0 };
        let window = window as f64 / segment as f64;
        let largest = (largest / segment as f64).max(window);
        Self {
            began: now,
            largest,
            plateau: ((largest - window) / STEEPNESS).cbrt(),
            friendly: window,
        }
    }

    /// The window in bytes at which the curve is flat.
    pub fn largest(&self, segment: u64) -> u64 {
        (self.largest * segment as f64) as u64
    }

    /// The next window, after `acknowledged` bytes.
    pub fn next(
        &mut self,
        now: Instant,
        round_trip: Duration,
        window: u64,
        acknowledged: u64,
        segment: u64,
    ) -> u64 {
        let current = window as f64 / segment as f64;
        let acknowledged = acknowledged as f64 / segment as f64;
        self.friendly += 3.0 * (1.0 - BETA) / (1.0 + BETA) * acknowledged / current;

        let ahead = now.saturating_duration_since(self.began) + round_trip;
        let curve = STEEPNESS * (ahead.as_secs_f64() - self.plateau).powi(3) + self.largest;
        let target = curve.clamp(current, 1.5 * current);
        let grown = current + (target - current) / current * acknowledged;
        (grown.max(self.friendly) * segment as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1_000;
    const ROUND_TRIP: Duration = Duration::from_millis(100);

    /// Windows of a flow that is always limited by them, one per round trip.
    fn windows(from: u64, largest: u64, rounds: u32) -> Vec<u64> {
        let start = Instant::now();
        let mut growth = Growth::new(start, from, largest, None, SEGMENT);
        let mut window = from;
        (1..=rounds)
            .map(|round| {
                let now = start + ROUND_TRIP * round;
                for _ in 0..window / SEGMENT {
                    window = growth.next(now, ROUND_TRIP, window, SEGMENT, SEGMENT);
                }
                window
            })
            .collect()
    }

    #[test]
    fn the_window_is_back_where_it_was_cut_after_the_time_of_the_curve() {
        // cbrt(300 / 0.2) = 11.4 s.
        let windows = windows(700_000, 1_000_000, 115);
        assert!(windows[60] < 990_000, "{}", windows[60]);
        assert!(
            (990_000..1_010_000).contains(&windows[114]),
            "{}",
            windows[114]
        );
    }

    #[test]
    fn a_small_window_grows_at_least_as_renos() {
        // 0.53 segments a round trip, less what does not fill one.
        let windows = windows(7_000, 10_000, 20);
        assert!(windows[19] >= 7_000 + 9 * SEGMENT, "{}", windows[19]);
    }

    #[test]
    fn no_round_trip_grows_the_window_by_more_than_half() {
        let windows = windows(700_000, 1_000_000, 600);
        for pair in windows.windows(2) {
            assert!(pair[1] as f64 <= 1.7 * pair[0] as f64, "{pair:?}");
        }
    }

    #[test]
    fn a_flow_that_is_cut_before_it_was_back_gives_way() {
        let now = Instant::now();
        let first = Growth::new(now, 700_000, 1_000_000, None, SEGMENT);
        let second = Growth::new(now, 560_000, 800_000, Some(first.largest(SEGMENT)), SEGMENT);
        assert_eq!(second.largest(SEGMENT), 680_000);
    }
}
