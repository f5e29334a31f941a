//! What acknowledgements and losses tell about the path: its round trip, a standing queue, its
//! loss.

use std::time::{Duration, Instant};

use super::random_loss::RandomLoss;
use super::recent::Recent;
use super::round::Round;
use crate::repair::PathLoss;

/// A queue counts as standing if it delays even the fastest packet of two rounds by the base round
/// trip divided by this, ...
const STANDING_SHARE: u32 = 16;
/// ... by this, which a receiver may wait before it acknowledges, ...
const STANDING_LEAST: Duration = Duration::from_millis(1);
/// ... and by this many times the usual change of a round's fastest packet from one round to the
/// next: delay that comes and goes is a radio's, a queue stays for many rounds. On Wi-Fi-like paths
/// of 6 to 40 ms with jitter of a third and 1 or 2 % loss, 6 keeps requests as fast as a window
/// that never shrinks; with 4 two of six took three times as long, with 0 all. Price: a queue of a
/// tenth of a round trip is smaller than its own jitter, so its losses are ignored (79 % of the
/// link beside CUBIC there).
const JITTERS: u32 = 6;
/// A round that loses more than this share of its bytes loses heavily. Random loss stays below: the
/// transport's goals hold at 2 %, and a Gilbert channel (loss in bursts) of that rate has single
/// rounds of 10 %.
const HEAVY_SHARE: f64 = 0.1;
/// If this many of the latest eight rounds lost heavily, the path drops what it cannot carry. A
/// radio's fade spoils one round, or two in a row.
const MANY_HEAVY_ROUNDS: u32 = 3;
/// The path loses at random if at least this share of its lossy rounds, smoothed, was not nearly as
/// slow as the slowest of the last seconds: a full queue loses packets only while it is full. Two
/// such rounds are enough.
const RANDOM_SHARE: f64 = 0.15;
/// Judged rounds whose bytes prove what the path holds. A path that has become narrower is noticed
/// after as many.
const PROVING_ROUNDS: usize = 8;
/// The path reorders packets if more than this share of the acknowledged bytes arrived after later
/// packets. Where packets are only lost the share is zero; a single late packet stays below this.
const REORDERING_SHARE: f64 = 0.02;

/// On a short path, within a host or a rack, the fastest packet ever took less than this ...
const SHORT: Duration = Duration::from_millis(2);
/// ... and the recent ones less than this: the first include the handshake's computing, and after a
/// pause the acknowledgement of a keep-alive waits a millisecond or two for a second packet.
const SHORT_OF_LATE: Duration = Duration::from_millis(4);

#[derive(Debug, Clone)]
pub(super) struct Path {
    base: Recent<Duration>,
    /// The shortest round trip ever.
    shortest: Option<Duration>,
    round: Round,
    /// The previous round, and when it ended.
    previous: Option<(Instant, Round)>,
    newest_sent: Option<Instant>,
    /// Change of the fastest packet from one round to the next, smoothed.
    jitter: Option<Duration>,
    /// One bit per judged round, set if it lost heavily; the latest round is the lowest bit.
    heavy_rounds: u8,
    overtaken_share: f64,
    largest_round: f64,
    /// Share of lossy rounds whose losses no full queue explains, smoothed.
    random_share: f64,
    /// The longest wait of a round.
    fullest: Recent<Duration>,
    /// Bytes acknowledged in each of the latest judged rounds; 0 if it lost heavily.
    brought: [u64; PROVING_ROUNDS],
    random_loss: RandomLoss,
}

/// A burst of ours was larger than a queue could hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflow {
    /// Bytes acknowledged in the round that noticed the loss.
    pub through: u64,
    /// The larger of that and the round before: a burst may have arrived before its losses are
    /// noticed.
    pub through_of_two: u64,
    /// Whether the burst found the queue empty, so that the same amount fits again.
    pub was_empty: bool,
}

impl Path {
    pub fn new(now: Instant) -> Self {
        Self {
            base: Recent::default(),
            shortest: None,
            round: Round::new(now),
            previous: None,
            newest_sent: None,
            jitter: None,
            heavy_rounds: 0,
            overtaken_share: 0.0,
            largest_round: 0.0,
            random_share: 0.0,
            fullest: Recent::default(),
            brought: [0; PROVING_ROUNDS],
            random_loss: RandomLoss::default(),
        }
    }

    pub fn acknowledged(&mut self, now: Instant, sent: Instant, bytes: u64) -> Option<Overflow> {
        let overflow = (sent > self.round.began)
            .then(|| self.end_round(now))
            .flatten();
        self.round.acknowledged += bytes;
        if self.newest_sent.is_some_and(|newest| sent < newest) {
            // Packets sent later were faster: this one did not measure the queue.
            self.round.overtaken += bytes;
            return overflow;
        }
        self.newest_sent = Some(sent);
        let sample = now.saturating_duration_since(sent);
        self.base.add(now, sample, Duration::min);
        self.shortest = Some(self.shortest.map_or(sample, |least| least.min(sample)));
        self.round.measured(sample);
        if let Some(base) = self.base.get(Duration::min) {
            self.random_loss.acknowledged(now, sent, base, bytes);
        }
        overflow
    }

    /// The shortest round trip ever.
    pub fn shortest(&self) -> Option<Duration> {
        self.shortest
    }

    /// Whether a round trip is so short that acknowledgements come while a flight leaves.
    pub fn is_short(&self) -> bool {
        let was_short = self.shortest.is_some_and(|shortest| shortest < SHORT);
        was_short
            && self
                .base
                .get(Duration::min)
                .is_some_and(|base| base < SHORT_OF_LATE)
    }

    /// Packets were lost, of which the newest was sent at `sent`.
    pub fn lost(&mut self, sent: Instant, bytes: u64) {
        self.round.lost += bytes;
        if let Some(base) = self.base.get(Duration::min) {
            self.random_loss.lost(sent, base, bytes);
        }
    }

    /// Whether packets have been queued for two rounds. A burst of our own that is shorter than a
    /// round trip leaves no such queue, and neither does jitter: the fastest packet of these rounds
    /// was not delayed.
    pub fn queue_stands(&self) -> bool {
        let Some((_, previous)) = &self.previous else {
            return false;
        };
        let rounds = [&self.round, previous];
        let fastest = rounds.iter().filter_map(|round| round.fastest).min();
        let (Some(fastest), Some(base)) = (fastest, self.base.get(Duration::min)) else {
            return false;
        };
        self.is_queued(base, fastest)
    }

    /// Whether a round whose fastest packet took `fastest` had more delay than usually comes and
    /// goes.
    fn is_queued(&self, base: Duration, fastest: Duration) -> bool {
        fastest >= base + standing(base).max(JITTERS * self.jitter.unwrap_or_default())
    }

    /// Share of the current round's bytes that were lost; 0 while there are too few to judge.
    pub fn loss_share(&self) -> f64 {
        self.round.loss_share().unwrap_or(0.0)
    }

    /// Whether the current round loses heavily.
    pub fn loses_heavily(&self) -> bool {
        self.loss_share() > HEAVY_SHARE
    }

    /// Whether many of the recent rounds lost heavily.
    pub fn keeps_losing_heavily(&self) -> bool {
        self.heavy_rounds.count_ones() >= MANY_HEAVY_ROUNDS
    }

    /// Whether packets overtake each other so often that most of those declared lost are only late.
    pub fn reorders(&self) -> bool {
        self.overtaken_share > REORDERING_SHARE
    }

    /// On a path that loses at random, most bytes that one of the latest rounds brought through
    /// without heavy loss: path and queue hold as much. 0 elsewhere, where loss says what they hold.
    pub fn proven(&self) -> u64 {
        match self.loses_at_random() {
            true => self.brought.iter().copied().max().unwrap_or(0),
            false => 0,
        }
    }

    /// What was lost at random, for repair.
    pub fn loss(&self) -> PathLoss {
        PathLoss {
            reorders: self.reorders(),
            ..self.random_loss.counts()
        }
    }

    fn loses_at_random(&self) -> bool {
        self.random_share >= RANDOM_SHARE
    }

    /// Bytes of the largest of the latest rounds.
    pub fn largest_round(&self) -> u64 {
        self.largest_round as u64
    }

    fn end_round(&mut self, now: Instant) -> Option<Overflow> {
        // Before the round is replaced: two rounds tell, not one.
        let queue_stands = self.queue_stands();
        let round = std::mem::replace(&mut self.round, Round::new(now));
        self.note_jitter(now, &round);
        let previous = self.previous.replace((now, round.clone()));
        let previous = previous.map(|(_, round)| round);
        let in_queues = self.random_loss.end_round(&round);
        self.random_loss.note_queue(queue_stands);
        let heavy = round.loss_share()? > HEAVY_SHARE;
        self.heavy_rounds = self.heavy_rounds << 1 | u8::from(heavy);
        self.brought.rotate_right(1);
        self.brought[0] = if heavy { 0 } else { round.acknowledged };
        let overtaken = round.overtaken as f64 / round.acknowledged.max(1) as f64;
        self.overtaken_share += (overtaken - self.overtaken_share) / 4.0;
        self.largest_round = (self.largest_round * 0.95).max(round.bytes() as f64);
        let base = self.base.get(Duration::min)?;
        self.note_random_loss(now, &round, previous.as_ref(), base);
        // Losses of one round may be noticed in the next.
        let has_queued = match self.loses_at_random() {
            true => [Some(&round), previous.as_ref()]
                .into_iter()
                .flatten()
                .any(|round| round.has_queued(base)),
            false => round.may_have_queued(base),
        };
        // Where losses are random, too, a burst of them is no overflow.
        let queue_lost = in_queues as f64 > HEAVY_SHARE * round.bytes() as f64;
        let overflowed = heavy && (queue_lost || !self.loses_at_random());
        if !overflowed || !has_queued || self.reorders() {
            return None;
        }
        let was_empty = round
            .fastest
            .is_some_and(|fastest| fastest < base + standing(base));
        let before = previous.map_or(0, |round| round.acknowledged);
        Some(Overflow {
            through: round.acknowledged,
            through_of_two: round.acknowledged.max(before),
            was_empty,
        })
    }

    fn note_random_loss(
        &mut self,
        now: Instant,
        round: &Round,
        previous: Option<&Round>,
        base: Duration,
    ) {
        let before = previous.map_or(Duration::ZERO, |round| round.waited(base));
        let waited = round.waited(base).max(before);
        self.fullest.add(now, waited, Duration::max);
        let fullest = self.fullest.get(Duration::max).unwrap_or(waited);
        if round.lost > 0 {
            let random = if waited < fullest * 3 / 4 { 1.0 } else { 0.0 };
            self.random_share += (random - self.random_share) / 8.0;
        }
    }

    fn note_jitter(&mut self, now: Instant, round: &Round) {
        let Some((ended, previous)) = &self.previous else {
            return;
        };
        let (Some(fastest), Some(before)) = (round.fastest, previous.fastest) else {
            return;
        };
        // After a pause the path may have changed, which is no jitter.
        if now.saturating_duration_since(*ended) <= 4 * fastest {
            let change = fastest.abs_diff(before);
            // Half of the first change is believed at once: a jitter that is learnt little by little
            // is taken for queues meanwhile.
            let smoothed = |jitter| (7 * jitter + change) / 8;
            self.jitter = Some(self.jitter.map_or(change / 2, smoothed));
        }
    }
}

/// The least delay that counts as a standing queue where there is no jitter.
fn standing(base: Duration) -> Duration {
    (base / STANDING_SHARE).max(STANDING_LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const BYTES: u64 = 1_200;

    /// A round of packets sent at `now`, which took the times given.
    fn round(path: &mut Path, now: Instant, times: impl Iterator<Item = Duration>) {
        for (i, time) in times.enumerate() {
            let sent = now + Duration::from_micros(i as u64 + 1);
            path.acknowledged(sent + time, sent, BYTES);
        }
    }

    #[test]
    fn a_queue_that_every_packet_of_two_rounds_waits_in_stands() {
        let start = Instant::now();
        let mut path = Path::new(start);
        for number in 0..2 {
            let now = start + 50 * number * MILLISECOND;
            round(&mut path, now, (0..20).map(|_| 20 * MILLISECOND));
        }
        for number in 2..=3 {
            assert!(!path.queue_stands());
            let now = start + 50 * number * MILLISECOND;
            round(&mut path, now, (0..20).map(|_| 24 * MILLISECOND));
        }
        assert!(path.queue_stands());
    }

    #[test]
    fn delay_that_changes_from_round_to_round_is_no_queue() {
        let start = Instant::now();
        let mut path = Path::new(start);
        round(&mut path, start, (0..20).map(|_| 20 * MILLISECOND));
        for number in 1..100 {
            let now = start + 50 * number * MILLISECOND;
            let delay = (22 + number * 7 % 5) * MILLISECOND;
            round(&mut path, now, (0..20).map(|_| delay));
            // The first rounds teach what is usual.
            assert!(number < 5 || !path.queue_stands(), "in round {number}");
        }
    }

    #[test]
    fn a_burst_that_loses_heavily_behind_a_queue_has_overflowed_it() {
        let start = Instant::now();
        for (slowest, overflowed) in [(22, None), (30, Some(40 * BYTES))] {
            let mut path = Path::new(start);
            round(&mut path, start, (0..20).map(|_| 20 * MILLISECOND));
            let burst = start + 50 * MILLISECOND;
            round(&mut path, burst, (0..39).map(|_| 20 * MILLISECOND));
            path.acknowledged(burst + slowest * MILLISECOND, burst + MILLISECOND, BYTES);
            path.lost(burst + MILLISECOND, 20 * BYTES);
            let next = burst + 50 * MILLISECOND;
            let overflow = path.acknowledged(next + 20 * MILLISECOND, next, BYTES);
            let through = overflow.map(|overflow| overflow.through);
            assert_eq!(through, overflowed, "slowest packet after {slowest} ms");
        }
    }

    #[test]
    fn what_a_burst_brought_through_a_round_before_its_losses_are_noticed_counts() {
        let start = Instant::now();
        let mut path = Path::new(start);
        round(&mut path, start, (0..20).map(|_| 20 * MILLISECOND));
        let burst = start + 50 * MILLISECOND;
        let queued = |i| 20 * MILLISECOND + i * MILLISECOND / 4;
        round(&mut path, burst, (0..60).map(queued));
        let rest = burst + 60 * MILLISECOND;
        round(&mut path, rest, (0..30).map(queued));
        path.lost(burst + MILLISECOND, 30 * BYTES);
        let next = rest + 60 * MILLISECOND;
        let overflow = path.acknowledged(next + 20 * MILLISECOND, next, BYTES);
        let expected = Overflow {
            through: 30 * BYTES,
            through_of_two: 60 * BYTES,
            was_empty: true,
        };
        assert_eq!(overflow, Some(expected));
    }

    #[test]
    fn a_queue_that_grows_with_our_own_burst_does_not_stand() {
        let start = Instant::now();
        let mut path = Path::new(start);
        for burst in 0..5 {
            let now = start + 100 * burst * MILLISECOND;
            round(
                &mut path,
                now,
                (0..40).map(|i| 20 * MILLISECOND + i * MILLISECOND / 4),
            );
            assert!(!path.queue_stands());
        }
    }

    #[test]
    fn a_few_slow_packets_are_no_queue() {
        let start = Instant::now();
        let mut path = Path::new(start);
        round(&mut path, start, (0..20).map(|_| 20 * MILLISECOND));
        round(
            &mut path,
            start + 50 * MILLISECOND,
            (0..20).map(|_| 20 * MILLISECOND),
        );
        round(
            &mut path,
            start + 100 * MILLISECOND,
            (0..5).map(|_| 30 * MILLISECOND),
        );
        assert!(!path.queue_stands());
    }

    #[test]
    fn a_longer_route_is_learnt_within_twenty_seconds() {
        let start = Instant::now();
        let mut path = Path::new(start);
        round(&mut path, start, (0..20).map(|_| 20 * MILLISECOND));
        for second in 1..=20 {
            let now = start + 1_000 * second * MILLISECOND;
            round(&mut path, now, (0..20).map(|_| 35 * MILLISECOND));
            let taken_for_a_queue = (2..20).contains(&second);
            assert_eq!(path.queue_stands(), taken_for_a_queue, "after {second} s");
        }
    }

    #[test]
    fn a_path_within_a_host_is_short_though_its_keep_alives_are_acknowledged_late() {
        let start = Instant::now();
        let mut path = Path::new(start);
        assert!(!path.is_short(), "nothing is known yet");
        round(&mut path, start, (0..20).map(|_| MILLISECOND));
        for second in 1..60 {
            let now = start + 1_000 * second * MILLISECOND;
            round(&mut path, now, std::iter::once(2 * MILLISECOND));
            assert!(path.is_short(), "after {second} s");
        }
    }

    #[test]
    fn a_path_that_takes_milliseconds_is_not_short() {
        let start = Instant::now();
        let mut path = Path::new(start);
        round(&mut path, start, (0..20).map(|_| 3 * MILLISECOND));
        assert!(!path.is_short());
    }

    #[test]
    fn a_short_path_that_becomes_long_is_not_short_any_more() {
        let start = Instant::now();
        let mut path = Path::new(start);
        round(&mut path, start, (0..20).map(|_| MILLISECOND));
        for second in 1..=20 {
            let now = start + 1_000 * second * MILLISECOND;
            round(&mut path, now, (0..20).map(|_| 20 * MILLISECOND));
        }
        assert!(!path.is_short());
    }

    #[test]
    fn packets_that_arrive_after_later_ones_make_a_path_that_reorders() {
        let start = Instant::now();
        let mut path = Path::new(start);
        for number in 0..16 {
            let now = start + 50 * number * MILLISECOND;
            round(&mut path, now, (0..20).map(|_| 20 * MILLISECOND));
            let late = now + Duration::from_micros(1);
            path.acknowledged(late + 21 * MILLISECOND, late, BYTES);
        }
        assert!(path.reorders());
    }

    #[test]
    fn small_rounds_are_not_judged_by_their_loss() {
        let start = Instant::now();
        let mut path = Path::new(start);
        for number in 0..4 {
            let now = start + 50 * number * MILLISECOND;
            round(&mut path, now, (0..4).map(|_| 20 * MILLISECOND));
            path.lost(now, BYTES);
        }
        assert_eq!(path.heavy_rounds, 0);
    }
}
