//! What acknowledgements and losses tell about the path: its round trip, a queue that stands in it, how much it loses.

use std::time::{Duration, Instant};

/// A base round trip older than this may be a route that is gone: a longer one is learnt within twice the time.
const BASE_MEMORY: Duration = Duration::from_secs(10);
/// A queue stands when even the fastest packet of two rounds took this share of the base round trip longer, ...
const STANDING_SHARE: u32 = 16;
/// ... at least this much, which is what a receiver may wait with an acknowledgement, ...
const STANDING_LEAST: Duration = Duration::from_millis(1);
/// ... and so many times what the fastest packet of a round usually differs from that of the round before: delay that comes and goes
/// is a radio's, a queue stays for many rounds. On Wi-Fi-like paths of 6 to 40 ms with jitter of a third and 1 or 2 %
/// loss, 6 keeps requests as fast as a window that never shrinks; with 4 two of six took three times as long, with 0
/// all. Price: a queue of a tenth of a round trip is smaller than its own jitter, and its losses go unheeded (77 % beside CUBIC
/// there, 66 % with 4).
const JITTERS: u32 = 6;
/// A round that loses more of its bytes than this counts as heavy. Links that merely lose do less: the transport's
/// goals hold at 2 %, and a Gilbert channel of that rate has single rounds of 10 %.
const HEAVY_SHARE: f64 = 0.1;
/// So many of the latest eight rounds that lose heavily are a path that drops what it cannot carry. A fade of a radio spoils one,
/// or two that follow each other.
const MANY_HEAVY_ROUNDS: u32 = 3;
/// A burst that loses heavily and whose slowest packet took this share of the base longer has overflowed a queue.
const OVERFLOW_SHARE: u32 = 4;
const OVERFLOW_LEAST: Duration = Duration::from_millis(4);
/// Rounds smaller than this are not judged by their loss: one packet of four is no rate.
const JUDGED_BYTES: u64 = 24_000;
/// A larger share than this of what is acknowledged arrived after later packets: the path reorders by itself. On one that only
/// loses it is nothing at all; a stray packet is less.
const REORDERING_SHARE: f64 = 0.02;

/// A packet on a short path, as within a host or a rack, has taken less than this at some time. The first ones take the handshake's
/// computing on top, ...
const SHORT: Duration = Duration::from_millis(2);
/// ... and a keep-alive after a pause a millisecond or two, because its acknowledgement waits for a second packet.
const SHORT_OF_LATE: Duration = Duration::from_millis(4);

/// Rounds are told apart by send times: one ends when a packet is acknowledged that was sent after it began.
#[derive(Debug, Clone)]
pub(super) struct Path {
    base: SlidingMinimum,
    /// Of all samples.
    shortest: Option<Duration>,
    round: Round,
    /// The round before and its end.
    previous: Option<(Instant, Round)>,
    newest_sent: Option<Instant>,
    /// Change of the fastest packet from one round to the next, smoothed.
    jitter: Duration,
    /// One bit for each judged round, the latest lowest.
    heavy_rounds: u8,
    overtaken_share: f64,
    largest_round: f64,
}

/// A burst of ours was more than a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflow {
    /// Bytes that were not, in the round that noticed.
    pub through: u64,
    /// The most in that round and the one before, in which a burst may have gone through before its losses are noticed.
    pub through_of_two: u64,
    /// Whether it came upon an empty queue, so that as much fits again.
    pub was_empty: bool,
}

#[derive(Debug, Clone)]
struct Round {
    began: Instant,
    fastest: Option<Duration>,
    slowest: Duration,
    acknowledged: u64,
    lost: u64,
    overtaken: u64,
}

impl Path {
    pub fn new(now: Instant) -> Self {
        Self {
            base: SlidingMinimum::default(),
            shortest: None,
            round: Round::new(now),
            previous: None,
            newest_sent: None,
            jitter: Duration::ZERO,
            heavy_rounds: 0,
            overtaken_share: 0.0,
            largest_round: 0.0,
        }
    }

    pub fn acknowledged(&mut self, now: Instant, sent: Instant, bytes: u64) -> Option<Overflow> {
        let overflow = (sent > self.round.began)
            .then(|| self.end_round(now))
            .flatten();
        self.round.acknowledged += bytes;
        if self.newest_sent.is_some_and(|newest| sent < newest) {
            // Its successors were faster: this one has not measured the queue.
            self.round.overtaken += bytes;
            return overflow;
        }
        self.newest_sent = Some(sent);
        let sample = now.saturating_duration_since(sent);
        self.base.add(now, sample);
        self.shortest = Some(self.shortest.map_or(sample, |least| least.min(sample)));
        self.round.fastest = Some(self.round.fastest.map_or(sample, |least| least.min(sample)));
        self.round.slowest = self.round.slowest.max(sample);
        overflow
    }

    /// Whether a round trip is so short that acknowledgements come while a flight leaves.
    pub fn is_short(&self) -> bool {
        let was_short = self.shortest.is_some_and(|shortest| shortest < SHORT);
        was_short && self.base.get().is_some_and(|base| base < SHORT_OF_LATE)
    }

    pub fn lost(&mut self, bytes: u64) {
        self.round.lost += bytes;
    }

    /// Whether packets have waited for two rounds. A burst of our own that is shorter than a round trip leaves no such queue,
    /// nor does jitter: the fastest packet of these rounds went through freely.
    pub fn queue_stands(&self) -> bool {
        let Some((_, previous)) = &self.previous else {
            return false;
        };
        let rounds = [&self.round, previous];
        let fastest = rounds.iter().filter_map(|round| round.fastest).min();
        let (Some(fastest), Some(base)) = (fastest, self.base.get()) else {
            return false;
        };
        fastest >= base + standing(base).max(JITTERS * self.jitter)
    }

    /// Share of the bytes of the current round that were lost; none while they are too few to tell.
    pub fn loss_share(&self) -> f64 {
        self.round.loss_share().unwrap_or(0.0)
    }

    /// Whether the current round loses heavily.
    pub fn loses_heavily(&self) -> bool {
        self.loss_share() > HEAVY_SHARE
    }

    /// Whether many rounds of late lost heavily.
    pub fn keeps_losing_heavily(&self) -> bool {
        self.heavy_rounds.count_ones() >= MANY_HEAVY_ROUNDS
    }

    /// Whether packets overtake each other so much that most of what is declared lost has only been late.
    pub fn reorders(&self) -> bool {
        self.overtaken_share > REORDERING_SHARE
    }

    /// Bytes of the largest of the latest rounds.
    pub fn largest_round(&self) -> u64 {
        self.largest_round as u64
    }

    fn end_round(&mut self, now: Instant) -> Option<Overflow> {
        let round = std::mem::replace(&mut self.round, Round::new(now));
        self.note_jitter(now, &round);
        let share = round.loss_share();
        let previous = self.previous.replace((now, round.clone()));
        let share = share?;
        let heavy = share > HEAVY_SHARE;
        self.heavy_rounds = self.heavy_rounds << 1 | u8::from(heavy);
        let bytes = round.bytes() as f64;
        let overtaken = round.overtaken as f64 / round.acknowledged.max(1) as f64;
        self.overtaken_share += (overtaken - self.overtaken_share) / 4.0;
        self.largest_round = (self.largest_round * 0.95).max(bytes);
        let base = self.base.get()?;
        let queued = round.slowest >= base + (base / OVERFLOW_SHARE).max(OVERFLOW_LEAST);
        if !heavy || !queued || self.reorders() {
            return None;
        }
        let was_empty = round
            .fastest
            .is_some_and(|fastest| fastest < base + standing(base));
        let before = previous.map_or(0, |(_, round)| round.acknowledged);
        Some(Overflow {
            through: round.acknowledged,
            through_of_two: round.acknowledged.max(before),
            was_empty,
        })
    }

    fn note_jitter(&mut self, now: Instant, round: &Round) {
        let Some((ended, previous)) = &self.previous else {
            return;
        };
        let (Some(fastest), Some(before)) = (round.fastest, previous.fastest) else {
            return;
        };
        // After a pause the path may be another one; that is no jitter.
        if now.saturating_duration_since(*ended) <= 4 * fastest {
            self.jitter = (7 * self.jitter + fastest.abs_diff(before)) / 8;
        }
    }
}

/// Delay from which on a queue may stand, where there is no jitter.
fn standing(base: Duration) -> Duration {
    (base / STANDING_SHARE).max(STANDING_LEAST)
}

impl Round {
    fn new(began: Instant) -> Self {
        Self {
            began,
            fastest: None,
            slowest: Duration::ZERO,
            acknowledged: 0,
            lost: 0,
            overtaken: 0,
        }
    }

    fn bytes(&self) -> u64 {
        self.lost + self.acknowledged
    }

    fn loss_share(&self) -> Option<f64> {
        let bytes = self.bytes();
        (bytes >= JUDGED_BYTES).then(|| self.lost as f64 / bytes as f64)
    }
}

/// The least of what was added within [`BASE_MEMORY`], or up to twice that.
#[derive(Debug, Clone, Default)]
struct SlidingMinimum {
    since: Option<Instant>,
    current: Option<Duration>,
    before: Option<Duration>,
}

impl SlidingMinimum {
    fn add(&mut self, now: Instant, sample: Duration) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) > BASE_MEMORY {
            self.since = Some(now);
            self.before = self.current.take();
        }
        self.current = Some(self.current.map_or(sample, |least| least.min(sample)));
    }

    fn get(&self) -> Option<Duration> {
        self.current.into_iter().chain(self.before).min()
    }
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
        round(&mut path, start, (0..20).map(|_| 20 * MILLISECOND));
        for number in 1..=2 {
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
            path.lost(20 * BYTES);
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
        path.lost(30 * BYTES);
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
            path.lost(BYTES);
        }
        assert_eq!(path.heavy_rounds, 0);
    }
}
