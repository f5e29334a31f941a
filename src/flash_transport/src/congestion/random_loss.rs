//! Counts what a path loses at random, apart from what its full queues drop.

use std::time::{Duration, Instant};

use super::recent::Recent;
use super::round::Round;
use crate::repair::PathLoss;

/// While a queue could be full, losses count as random if at least this share of the rounds that lost
/// packets, smoothed, was not nearly as slow as the slowest of the last seconds: a full queue loses
/// packets only while it is full. Two such rounds are enough.
const RANDOM_SHARE: f64 = 0.15;

/// A round that loses more than this has met a full queue, or a fade that no repair is worth its bytes
/// for. Of a large request into a full queue, 45 % are lost before the path's round trip is known.
const HOPELESS_SHARE: f64 = 0.25;

/// Other than the window, repair also has to know rounds too small to be judged: an answer of five
/// packets is one.
#[derive(Debug, Clone, Default)]
pub(super) struct RandomLoss {
    counts: PathLoss,
    random_share: f64,
    /// The longest wait of a round.
    fullest: Recent<Duration>,
}

impl RandomLoss {
    /// Note a round that has ended; its losses may be those of the `previous` one.
    pub fn end_round(
        &mut self,
        now: Instant,
        round: &Round,
        previous: Option<&Round>,
        base: Duration,
        queue_stands: bool,
    ) {
        let rounds = [Some(round), previous];
        let rounds = || rounds.into_iter().flatten();
        let waited = rounds().map(|round| round.waited(base)).max();
        let waited = waited.unwrap_or_default();
        self.fullest.add(now, waited, Duration::max);
        self.counts.judged += round.bytes();
        if round.lost == 0 {
            return;
        }
        let fullest = self.fullest.get(Duration::max).unwrap_or(waited);
        let was_not_full = waited < fullest * 3 / 4;
        self.random_share += (f64::from(u8::from(was_not_full)) - self.random_share) / 8.0;
        let may_be_full = queue_stands || rounds().any(|round| round.may_have_queued(base));
        let is_hopeless = round
            .loss_share()
            .is_some_and(|share| share > HOPELESS_SHARE);
        if is_hopeless || (may_be_full && self.random_share < RANDOM_SHARE) {
            self.counts.in_queues += round.lost;
        } else {
            self.counts.at_random += round.lost;
        }
    }

    pub fn counts(&self) -> PathLoss {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(20);

    fn round(acknowledged: u64, lost: u64, waited: u64) -> Round {
        let mut round = Round::new(Instant::now());
        round.measured(BASE + Duration::from_millis(waited));
        round.acknowledged = acknowledged;
        round.lost = lost;
        round
    }

    fn after(rounds: &[Round]) -> PathLoss {
        let mut losses = RandomLoss::default();
        let now = Instant::now();
        let mut previous = None;
        for round in rounds {
            losses.end_round(now, round, previous, BASE, false);
            previous = Some(round);
        }
        losses.counts()
    }

    #[test]
    fn losses_without_delay_are_random_from_the_first() {
        let counts = after(&[round(400_000, 8_000, 2)]);
        assert_eq!((counts.at_random, counts.in_queues), (8_000, 0));
        assert_eq!(counts.judged, 408_000);
    }

    #[test]
    fn losses_behind_the_longest_delay_are_a_queues() {
        let rounds: Vec<Round> = (0..20).map(|_| round(400_000, 8_000, 20)).collect();
        let counts = after(&rounds);
        assert_eq!((counts.at_random, counts.in_queues), (0, 160_000));
    }

    #[test]
    fn losses_that_come_with_any_delay_are_random() {
        let rounds: Vec<Round> = (0..40u64)
            .map(|number| round(400_000, 8_000, 5 + number * 7 % 20))
            .collect();
        let counts = after(&rounds);
        assert!(counts.at_random > 3 * counts.in_queues, "{counts:?}");
    }

    #[test]
    fn a_round_that_loses_most_of_a_request_is_not_random() {
        let counts = after(&[round(300_000, 200_000, 0)]);
        assert_eq!((counts.at_random, counts.in_queues), (0, 200_000));
    }

    #[test]
    fn an_answer_of_five_packets_counts() {
        let counts = after(&[round(5_600, 1_400, 0)]);
        assert_eq!((counts.at_random, counts.judged), (1_400, 7_000));
    }
}
