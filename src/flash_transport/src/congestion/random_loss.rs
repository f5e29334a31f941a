//! Counts what a path loses at random, apart from what its full queues drop.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::recent::Recent;
use super::round::{may_have_queued, Round};
use crate::repair::PathLoss;

/// A round that loses more than this has met a full queue, or a fade that no repair is worth its bytes
/// for. Of a large request into a full queue, 45 % are lost before the path's round trip is known.
const HOPELESS_SHARE: f64 = 0.25;
/// Waits are kept for each part of a round trip, of which the shortest has so many, ...
const PARTS: u32 = 16;
/// ... and for so many of them: a loss is noticed after three round trips, or after a pause of probes.
const KEPT: usize = 256;

/// What tells a random loss is how long the packets sent just before and after the lost one waited: a
/// full queue loses packets only while it is full. So packets that waited nearly as long as any of
/// the last seconds say nothing of random loss, lost or not.
///
/// Other than the window, repair also has to know rounds too small to be judged: an answer of five
/// packets is one.
#[derive(Debug, Clone, Default)]
pub(super) struct RandomLoss {
    counts: PathLoss,
    queue_stands: bool,
    /// Of the current round.
    judged: u64,
    at_random: u64,
    in_queues: u64,
    /// The longest wait of the last seconds.
    fullest: Recent<Duration>,
    /// When packets were sent, and the longest wait of those of that part of a round trip; in order.
    waits: VecDeque<(Instant, Duration)>,
}

impl RandomLoss {
    /// Whether a queue stands from now on, however short it is.
    pub fn note_queue(&mut self, stands: bool) {
        self.queue_stands = stands;
    }

    /// Note a packet that has arrived before all that were sent later.
    pub fn acknowledged(&mut self, now: Instant, sent: Instant, base: Duration, bytes: u64) {
        let wait = now.saturating_duration_since(sent).saturating_sub(base);
        self.fullest.add(now, wait, Duration::max);
        let part = base / PARTS;
        match self.waits.back_mut() {
            Some((begin, longest)) if sent.saturating_duration_since(*begin) < part => {
                *longest = wait.max(*longest);
            }
            _ => {
                if self.waits.len() == KEPT {
                    self.waits.pop_front();
                }
                self.waits.push_back((sent, wait));
            }
        }
        if !self.is_nearly_full(wait, base) {
            self.judged += bytes;
        }
    }

    /// Note lost packets, of which the newest was sent at `sent`.
    pub fn lost(&mut self, sent: Instant, base: Duration, bytes: u64) {
        let behind = self.waits.partition_point(|(begin, _)| *begin <= sent);
        let around = self.waits.range(behind.saturating_sub(1)..);
        // Of a path that has not brought anything through nothing is known.
        let waited = around.take(2).map(|(_, wait)| *wait).max();
        match waited.is_some_and(|wait| !self.is_nearly_full(wait, base)) {
            true => self.at_random += bytes,
            false => self.in_queues += bytes,
        }
    }

    /// Note that `round` has ended; of its lost bytes, those that a full queue may have dropped.
    pub fn end_round(&mut self, round: &Round) -> u64 {
        let judged = std::mem::take(&mut self.judged);
        let at_random = std::mem::take(&mut self.at_random);
        let in_queues = std::mem::take(&mut self.in_queues);
        let is_hopeless = round
            .loss_share()
            .is_some_and(|share| share > HOPELESS_SHARE);
        if !is_hopeless {
            self.counts.judged += judged + at_random;
            self.counts.at_random += at_random;
            self.counts.in_queues += in_queues;
        }
        in_queues
    }

    pub fn counts(&self) -> PathLoss {
        self.counts
    }

    fn is_nearly_full(&self, wait: Duration, base: Duration) -> bool {
        let fullest = self.fullest.get(Duration::max).unwrap_or(wait);
        (self.queue_stands || may_have_queued(wait, base)) && wait >= fullest * 3 / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(20);
    const MILLISECOND: Duration = Duration::from_millis(1);
    const BYTES: u64 = 1_200;

    /// A path on which the test chooses what each packet waits, and which are lost.
    struct Flow {
        losses: RandomLoss,
        now: Instant,
    }

    impl Flow {
        fn new() -> Self {
            Self {
                losses: RandomLoss::default(),
                now: Instant::now(),
            }
        }

        /// Send packets that wait so many milliseconds, of which every `losing`th is lost, a
        /// millisecond apart; what was lost is noticed at the end.
        fn round(&mut self, waits: impl Iterator<Item = u32>, losing: usize) {
            let mut round = Round::new(self.now);
            let mut lost = Vec::new();
            for (number, wait) in waits.enumerate() {
                self.now += MILLISECOND;
                if (number + 1).is_multiple_of(losing) {
                    round.lost += BYTES;
                    lost.push(self.now);
                } else {
                    round.acknowledged += BYTES;
                    let arrival = self.now + BASE + wait * MILLISECOND;
                    self.losses.acknowledged(arrival, self.now, BASE, BYTES);
                }
            }
            for sent in lost {
                self.losses.lost(sent, BASE, BYTES);
            }
            self.losses.end_round(&round);
        }

        /// Lost at random, in queues, and judged, in packets.
        fn packets(&self) -> (u64, u64, u64) {
            let counts = self.losses.counts();
            (
                counts.at_random / BYTES,
                counts.in_queues / BYTES,
                counts.judged / BYTES,
            )
        }
    }

    #[test]
    fn losses_without_delay_are_random_from_the_first() {
        let mut flow = Flow::new();
        flow.round((0..200).map(|_| 2), 50);
        assert_eq!(flow.packets(), (4, 0, 200));
    }

    #[test]
    fn losses_behind_the_longest_delay_are_a_queues() {
        let mut flow = Flow::new();
        for _ in 0..20 {
            flow.round((0..200).map(|_| 20), 50);
        }
        assert_eq!(flow.packets(), (0, 80, 0));
    }

    #[test]
    fn losses_of_a_queue_far_shorter_than_the_round_trip_are_the_queues() {
        let mut flow = Flow::new();
        flow.losses.note_queue(true);
        for _ in 0..20 {
            flow.round((0..200).map(|_| 2), 50);
        }
        assert_eq!(flow.packets(), (0, 80, 0));
    }

    #[test]
    fn losses_while_a_queue_fills_are_random_and_those_of_the_full_one_are_not() {
        let mut flow = Flow::new();
        flow.round((0..100).map(|_| 40), 1_000);
        let (_, _, before) = flow.packets();
        flow.round((0..100).map(|number| number / 5), 10);
        flow.round((0..100).map(|_| 38), 10);
        assert_eq!(flow.packets(), (10, 10, before + 100));
    }

    #[test]
    fn losses_that_come_with_any_delay_have_the_rate_of_those_with_little() {
        let mut flow = Flow::new();
        for _ in 0..40 {
            flow.round((0..200u32).map(|number| number * 7919 % 31), 10);
        }
        let (at_random, _, judged) = flow.packets();
        let rate = at_random as f64 / judged as f64;
        assert!((0.05..0.12).contains(&rate), "{rate}");
    }

    #[test]
    fn the_lost_end_of_a_burst_that_filled_a_queue_is_the_queues_though_it_has_drained() {
        let mut flow = Flow::new();
        flow.round((0..60).map(|number| number / 2), 1_000);
        let end = flow.now + MILLISECOND;
        flow.now += 500 * MILLISECOND;
        let probe = flow.now;
        flow.losses.acknowledged(probe + BASE, probe, BASE, BYTES);
        flow.losses.lost(end, BASE, 10 * BYTES);
        flow.losses.end_round(&Round::new(flow.now));
        assert_eq!(flow.packets().0, 0);
    }

    #[test]
    fn a_round_that_loses_most_of_a_request_says_nothing() {
        let mut flow = Flow::new();
        flow.round((0..200).map(|_| 0), 2);
        assert_eq!(flow.packets(), (0, 0, 0));
    }

    #[test]
    fn an_answer_of_five_packets_counts() {
        let mut flow = Flow::new();
        flow.round((0..5).map(|_| 0), 5);
        assert_eq!(flow.packets(), (1, 0, 5));
    }
}
