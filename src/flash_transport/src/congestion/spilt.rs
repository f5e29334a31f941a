//! Whether queues drop the last few packets of flights.

use super::random_loss::{Losses, HOPELESS_SHARE};
use super::round::Round;

/// A round of which a full queue dropped more than this share has overflowed it, though it lost little.
const SPILT_SHARE: f64 = 0.02;
/// Judged rounds after which an earlier one counts 1/e.
const MEMORY: f64 = 32.0;
/// A burst of random loss may meet packets that waited long. So queues must have dropped this many
/// times what was lost at random.
const MOSTLY: f64 = 6.0;

/// So many random losses are believed at first.
const DOUBT: f64 = 10_000.0;

/// A window that is a little too large overflows the queue in each request by a few packets. Where a
/// request finds the queue empty, none stands then, and so few are no heavy loss; but each
/// of them costs a round trip, and repair does not help against a full queue.
#[derive(Debug, Clone)]
pub(super) struct Spilt {
    in_queues: f64,
    at_random: f64,
}

impl Default for Spilt {
    fn default() -> Self {
        Self {
            in_queues: 0.0,
            at_random: DOUBT,
        }
    }
}

impl Spilt {
    /// Note a judged round; whether it has overflowed a queue.
    pub fn has_spilt(&mut self, round: &Round, losses: Losses) -> bool {
        if round
            .loss_share()
            .is_none_or(|share| share > HOPELESS_SHARE)
        {
            return false;
        }
        let kept = 1.0 - 1.0 / MEMORY;
        self.in_queues = self.in_queues * kept + losses.in_queues as f64;
        self.at_random = self.at_random * kept + losses.at_random as f64;
        losses.in_queues as f64 > SPILT_SHARE * round.bytes() as f64
            && self.in_queues > MOSTLY * self.at_random
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const BYTES: u64 = 100_000;

    fn has_spilt(spilt: &mut Spilt, at_random: u64, in_queues: u64) -> bool {
        let mut round = Round::new(Instant::now());
        round.lost = at_random + in_queues;
        round.acknowledged = BYTES - round.lost;
        let losses = Losses {
            at_random,
            in_queues,
        };
        spilt.has_spilt(&round, losses)
    }

    #[test]
    fn a_queue_that_drops_a_few_packets_of_each_flight_is_noticed_within_a_few() {
        let mut spilt = Spilt::default();
        let noticed = (1..20).find(|_| has_spilt(&mut spilt, 500, 6_000));
        assert!(noticed.is_some_and(|flights| flights > 1), "{noticed:?}");
    }

    #[test]
    fn bursts_of_which_one_in_four_meets_a_long_wait_are_no_queues() {
        let mut spilt = Spilt::default();
        let all = (0..400).map(|number| match number % 4 {
            3 => has_spilt(&mut spilt, 0, 10_000),
            _ => has_spilt(&mut spilt, 10_000, 0),
        });
        assert_eq!(all.filter(|spilt| *spilt).count(), 0);
    }

    #[test]
    fn a_packet_or_two_are_not_worth_a_smaller_window() {
        let mut spilt = Spilt::default();
        assert!((0..100).all(|_| !has_spilt(&mut spilt, 0, 1_500)));
    }
}
