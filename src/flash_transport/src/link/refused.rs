//! Counts refused hellos by address, and delays the next ones. Pure: the time is an argument.
//!
//! Guessing keys costs an attacker a connection each and, after some wrong ones, seconds each, also
//! over many connections at once. Another robot behind the same address is still admitted, only
//! later. The servers of one process share the numbers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// This many refusals cause no delay: robots whose key was changed without notice.
const FREE_REFUSALS: u32 = 8;
/// The delay after one more refusal; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// Refusals of an address are forgotten after this time without another.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Hellos of an address that are delayed at once; more are refused unjudged.
const MOST_DELAYED: usize = 4;
/// Most addresses that are remembered; the one refused longest ago is dropped.
const MOST_ADDRESSES: usize = 1024;

/// The refused addresses of all servers that share a clone of it.
#[derive(Debug, Clone, Default)]
pub struct SharedRefusals(Arc<Mutex<RefusedAddresses>>);

/// When to judge a hello.
#[derive(Debug)]
pub enum Turn {
    Now,
    /// After this time; keep the guard until then.
    Later(Duration, Delayed),
    /// Too many of this address are delayed already.
    Never,
}

/// One delayed hello of an address; counted until it is dropped.
#[derive(Debug)]
pub struct Delayed {
    shared: SharedRefusals,
    address: Arc<str>,
}

impl SharedRefusals {
    /// Count a refused hello of `address`.
    pub fn note(&self, address: &Arc<str>, now: Instant) {
        self.lock().note(address, now);
    }

    /// When to judge the next hello of `address`, `longest` from now at the latest.
    pub fn turn(&self, address: &Arc<str>, now: Instant, longest: Duration) -> Turn {
        let mut refused = self.lock();
        let delay = refused.delay(address, now, longest);
        if delay.is_zero() {
            return Turn::Now;
        }
        let delayed = refused.delayed.entry(address.clone()).or_default();
        if *delayed >= MOST_DELAYED {
            return Turn::Never;
        }
        *delayed += 1;
        drop(refused);
        let (shared, address) = (self.clone(), address.clone());
        Turn::Later(delay, Delayed { shared, address })
    }

    fn lock(&self) -> MutexGuard<'_, RefusedAddresses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Delayed {
    fn drop(&mut self) {
        let mut refused = self.shared.lock();
        match refused.delayed.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                refused.delayed.remove(&self.address);
            }
        }
    }
}

#[derive(Debug, Default)]
pub struct RefusedAddresses {
    by_address: HashMap<Arc<str>, Refused>,
    /// Hellos that wait; holds no zeros.
    delayed: HashMap<Arc<str>, usize>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    count: u32,
    last: Instant,
}

impl RefusedAddresses {
    /// Count a refused hello of `address`.
    pub fn note(&mut self, address: &Arc<str>, now: Instant) {
        let before = self.count(address, now);
        if !self.by_address.contains_key(address) && self.by_address.len() >= MOST_ADDRESSES {
            self.make_room(now);
        }
        let refused = Refused {
            count: before.saturating_add(1),
            last: now,
        };
        self.by_address.insert(address.clone(), refused);
    }

    /// How long the next hello of `address` waits before it is judged, at most `longest`.
    pub fn delay(&self, address: &str, now: Instant, longest: Duration) -> Duration {
        match self.count(address, now).checked_sub(FREE_REFUSALS + 1) {
            None => Duration::ZERO,
            Some(doublings) => FIRST_DELAY
                .saturating_mul(1 << doublings.min(16))
                .min(longest),
        }
    }

    fn count(&self, address: &str, now: Instant) -> u32 {
        match self.by_address.get(address) {
            Some(refused) if !refused.is_forgotten(now) => refused.count,
            _ => 0,
        }
    }

    fn make_room(&mut self, now: Instant) {
        self.by_address
            .retain(|_, refused| !refused.is_forgotten(now));
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

impl Refused {
    fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= FORGOTTEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(4);

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
        let delay = |times| {
            refused(times, now)
                .delay("10.0.0.7", now, LONGEST)
                .as_millis()
        };
        for (times, ms) in [
            (0, 0),
            (8, 0),
            (9, 250),
            (10, 500),
            (11, 1000),
            (12, 2000),
            (13, 4000),
            (99, 4000),
        ] {
            assert_eq!(delay(times), ms, "{times}");
        }
    }

    #[test]
    fn many_hellos_at_once_are_delayed_a_few_at_a_time() {
        let now = Instant::now();
        let shared = SharedRefusals::default();
        for _ in 0..20 {
            shared.note(&address("10.0.0.7"), now);
        }
        let turn = |name| shared.clone().turn(&address(name), now, LONGEST);
        let mut delayed: Vec<Turn> = (0..MOST_DELAYED).map(|_| turn("10.0.0.7")).collect();
        assert!(delayed
            .iter()
            .all(|turn| matches!(turn, Turn::Later(delay, _) if *delay == LONGEST)));
        assert!(matches!(turn("10.0.0.7"), Turn::Never));
        assert!(matches!(turn("10.0.0.8"), Turn::Now));
        delayed.pop();
        assert!(matches!(turn("10.0.0.7"), Turn::Later(..)));
        drop(delayed);
        assert!(shared.lock().delayed.is_empty());
    }

    #[test]
    fn another_address_is_not_delayed() {
        let now = Instant::now();
        assert_eq!(
            refused(20, now).delay("10.0.0.8", now, LONGEST),
            Duration::ZERO
        );
    }

    #[test]
    fn refusals_are_forgotten_a_minute_after_the_last() {
        let now = Instant::now();
        let addresses = refused(20, now);
        let after =
            |seconds| addresses.delay("10.0.0.7", now + Duration::from_secs(seconds), LONGEST);
        assert_eq!(after(59), LONGEST);
        assert_eq!(after(60), Duration::ZERO);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_gives_way() {
        let now = Instant::now();
        let mut addresses = refused(20, now);
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
