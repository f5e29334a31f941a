//! How many hellos of each address were refused, and how long the next one waits for it. Pure: the time is an argument.
//!
//! Guessing keys costs an attacker a connection and, after a few wrong ones, seconds for each; a robot with a wrong key
//! among others behind the same address delays those by `ServerLimits::hello_delay` at most, once per connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many refusals delay nobody: a key that was changed, a few robots that were started with an old one.
const FREE_REFUSALS: u32 = 3;
/// The delay after one refusal more; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// One refusal is forgotten in this time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
/// Refusals beyond are not counted, so that an address is free again within minutes.
const MOST_REFUSALS: u32 = 16;
/// Addresses that are remembered; the one that was refused longest ago gives way.
const MOST_ADDRESSES: usize = 1024;

#[derive(Debug, Default)]
pub struct RefusedAddresses {
    by_address: HashMap<Arc<str>, Refused>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    count: u32,
    last: Instant,
}

impl Refused {
    fn count_at(self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.last).as_secs();
        let forgotten = passed / FORGOTTEN_AFTER.as_secs();
        self.count
            .saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

impl RefusedAddresses {
    /// A hello of `address` was refused.
    pub fn note(&mut self, address: &Arc<str>, now: Instant) {
        let before = self.count(address, now);
        if !self.by_address.contains_key(address) && self.by_address.len() >= MOST_ADDRESSES {
            self.make_room(now);
        }
        let refused = Refused {
            count: (before + 1).min(MOST_REFUSALS),
            last: now,
        };
        self.by_address.insert(address.clone(), refused);
    }

    /// How long the next hello of `address` waits before it is judged: `longest` at most.
    pub fn delay(&self, address: &str, now: Instant, longest: Duration) -> Duration {
        match self.count(address, now).checked_sub(FREE_REFUSALS + 1) {
            None => Duration::ZERO,
            Some(doublings) => FIRST_DELAY
                .saturating_mul(1 << doublings.min(16))
                .min(longest),
        }
    }

    fn count(&self, address: &str, now: Instant) -> u32 {
        let refused = self.by_address.get(address);
        refused.map_or(0, |refused| refused.count_at(now))
    }

    fn make_room(&mut self, now: Instant) {
        self.by_address
            .retain(|_, refused| refused.count_at(now) > 0);
        if self.by_address.len() >= MOST_ADDRESSES {
            let oldest = self
                .by_address
                .iter()
                .min_by_key(|(_, refused)| refused.last)
                .map(|(address, _)| address.clone());
            if let Some(oldest) = oldest {
                self.by_address.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(2);

    fn address(name: &str) -> Arc<str> {
        name.into()
    }

    fn refused(times: u32, now: Instant) -> RefusedAddresses {
        let mut addresses = RefusedAddresses::default();
        for _ in 0..times {
            addresses.note(&address("10.0.0.7"), now);
        }
        addresses
    }

    #[test]
    fn a_few_refusals_delay_nobody_and_more_of_them_longer_and_longer() {
        let now = Instant::now();
        let delays: Vec<u128> = (0..12)
            .map(|times| {
                refused(times, now)
                    .delay("10.0.0.7", now, LONGEST)
                    .as_millis()
            })
            .collect();
        assert_eq!(
            delays,
            [0, 0, 0, 0, 50, 100, 200, 400, 800, 1600, 2000, 2000]
        );
    }

    #[test]
    fn another_address_is_not_delayed() {
        let now = Instant::now();
        assert_eq!(
            refused(9, now).delay("10.0.0.8", now, LONGEST),
            Duration::ZERO
        );
    }

    #[test]
    fn refusals_are_forgotten_one_by_one() {
        let now = Instant::now();
        let addresses = refused(1000, now);
        let after =
            |seconds| addresses.delay("10.0.0.7", now + Duration::from_secs(seconds), LONGEST);
        assert_eq!(after(9), LONGEST);
        assert_eq!(after(120), FIRST_DELAY);
        assert_eq!(after(130), Duration::ZERO);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_gives_way() {
        let now = Instant::now();
        let mut addresses = refused(9, now);
        for number in 0..u64::try_from(MOST_ADDRESSES).unwrap() {
            let later = now + Duration::from_millis(number + 1);
            addresses.note(
                &address(&format!("10.1.{}.{}", number / 256, number % 256)),
                later,
            );
        }
        assert_eq!(addresses.by_address.len(), MOST_ADDRESSES);
        assert_eq!(addresses.delay("10.0.0.7", now, LONGEST), Duration::ZERO);
    }
}
