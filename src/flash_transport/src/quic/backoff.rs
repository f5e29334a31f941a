//! Delays between attempts to connect. No clock: it only counts attempts.

use std::time::Duration;

/// First delay. A restarted server is back within seconds, and an attempt costs one datagram.
const FIRST: Duration = Duration::from_millis(50);
/// Longest delay: how long a robot waits at most once its server is back.
const LONGEST: Duration = Duration::from_secs(2);

/// Delays that double. Each is shortened at random, so that many robots do not reconnect at the
/// same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    pub fn new(seed: u64) -> Self {
        Self {
            next: FIRST,
            random: seed,
        }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    /// Between half of the current step and all of it.
    fn next(&mut self) -> Option<Duration> {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        self.random = split_mix(self.random);
        let fraction = (self.random >> 11) as f64 / (1u64 << 53) as f64;
        Some(step.mul_f64(0.5 + 0.5 * fraction))
    }
}

/// SplitMix64: Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators (OOPSLA 2014).
fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let delays: Vec<_> = Backoff::new(1).take(12).collect();
        let mut step = FIRST;
        for delay in &delays {
            assert!(
                *delay >= step / 2 && *delay <= step,
                "{delay:?} of {step:?}"
            );
            step = (step * 2).min(LONGEST);
        }
        assert!(delays[11] >= LONGEST / 2);
    }

    #[test]
    fn two_clients_do_not_wait_alike() {
        let one: Vec<_> = Backoff::new(1).take(4).collect();
        let other: Vec<_> = Backoff::new(2).take(4).collect();
        assert_ne!(one, other);
    }
}
