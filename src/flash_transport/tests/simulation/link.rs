//! One direction of a path: a queue in front of a wire.

use std::time::{Duration, Instant};

use crate::random::Random;

/// IPv4 and UDP headers, which take their place on the wire.
const HEADERS: u64 = 28;

#[derive(Debug, Clone)]
pub struct LinkSpec {
    /// From the end of the wire's serialisation to arrival, without jitter.
    pub one_way: Duration,
    pub bits_per_second: u64,
    /// Bytes that may wait for the wire. What comes on top is dropped.
    pub queue_bytes: u64,
    pub loss: Loss,
    pub jitter: Jitter,
    /// Largest UDP payload that passes: 1472 on Ethernet with IPv4.
    pub payload_limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    None,
    /// Each packet alone.
    Independent {
        probability: f64,
    },
    /// Gilbert-Elliott, as netem's: none are lost in the good state, `probability` in the bad one. The state changes
    /// per packet.
    Bursts {
        enter: f64,
        leave: f64,
        probability: f64,
    },
    /// A radio that fades: nothing passes for `lasting` on average, `apart` on average from the end of one to the next.
    Fades {
        apart: Duration,
        lasting: Duration,
    },
}

impl Loss {
    /// Bursts of `packets` on average, `rate` of all packets lost, each packet inside a burst lost.
    pub fn bursts(rate: f64, packets: f64) -> Self {
        let leave = 1.0 / packets;
        Loss::Bursts {
            enter: leave * rate / (1.0 - rate),
            leave,
            probability: 1.0,
        }
    }
}

/// Delay that changes from packet to packet, uniform within plus and minus `amount`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Jitter {
    None,
    /// Packets wait for their predecessors, as in a radio's queue.
    InOrder {
        amount: Duration,
    },
    /// Packets overtake each other, as in netem and on paths over several links.
    Reordering {
        amount: Duration,
    },
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LinkCounts {
    pub packets: u64,
    /// Bytes offered to the link, headers included.
    pub bytes: u64,
    pub overflowed: u64,
    pub lost: u64,
    pub too_large: u64,
}

#[derive(Debug)]
pub struct Link {
    spec: LinkSpec,
    random: Random,
    /// When the wire has sent all that waits.
    free_at: Option<Instant>,
    last_arrival: Option<Instant>,
    in_burst: bool,
    /// Begin and end of the current or next fade.
    fade: Option<(Instant, Instant)>,
    pub counts: LinkCounts,
}

impl Link {
    pub fn new(spec: LinkSpec, random: Random) -> Self {
        Self {
            spec,
            random,
            free_at: None,
            last_arrival: None,
            in_burst: false,
            fade: None,
            counts: LinkCounts::default(),
        }
    }

    /// Offer a datagram at `now`; returns when it arrives, or `None` if it never does.
    pub fn offer(&mut self, now: Instant, payload: usize) -> Option<Instant> {
        let bytes = payload as u64 + HEADERS;
        self.counts.packets += 1;
        self.counts.bytes += bytes;
        if payload > self.spec.payload_limit {
            self.counts.too_large += 1;
            return None;
        }
        let start = self.free_at.map_or(now, |free| free.max(now));
        if self.waiting_bytes(start - now) + bytes > self.spec.queue_bytes {
            self.counts.overflowed += 1;
            return None;
        }
        let sent = start + self.serialisation(bytes);
        self.free_at = Some(sent);
        // A packet that is lost on the way has taken its time on the wire.
        if self.loses(sent) {
            self.counts.lost += 1;
            return None;
        }
        Some(self.arrival(sent))
    }

    fn serialisation(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes * 8 * 1_000_000_000 / self.spec.bits_per_second)
    }

    fn waiting_bytes(&self, wait: Duration) -> u64 {
        let bits = wait.as_nanos() * u128::from(self.spec.bits_per_second) / 1_000_000_000;
        bits as u64 / 8
    }

    fn loses(&mut self, sent: Instant) -> bool {
        match self.spec.loss {
            Loss::None => false,
            Loss::Independent { probability } => self.random.happens(probability),
            Loss::Bursts {
                enter,
                leave,
                probability,
            } => {
                let change = if self.in_burst { leave } else { enter };
                self.in_burst ^= self.random.happens(change);
                self.in_burst && self.random.happens(probability)
            }
            Loss::Fades { apart, lasting } => {
                let mut fade = self.fade.unwrap_or((sent, sent));
                while fade.1 <= sent {
                    let begin = fade.1 + self.random.exponential(apart);
                    fade = (begin, begin + self.random.exponential(lasting));
                }
                self.fade = Some(fade);
                fade.0 <= sent
            }
        }
    }

    fn arrival(&mut self, sent: Instant) -> Instant {
        let arrival = match self.spec.jitter {
            Jitter::None => sent + self.spec.one_way,
            Jitter::InOrder { amount } => {
                let own = self.jittered(sent, amount);
                self.last_arrival.map_or(own, |last| last.max(own))
            }
            Jitter::Reordering { amount } => self.jittered(sent, amount),
        };
        self.last_arrival = Some(arrival);
        arrival
    }

    fn jittered(&mut self, sent: Instant, amount: Duration) -> Instant {
        let shift = amount.mul_f64(2.0 * self.random.fraction());
        sent + (self.spec.one_way + shift).saturating_sub(amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn spec() -> LinkSpec {
        LinkSpec {
            one_way: 10 * MILLISECOND,
            bits_per_second: 8_000_000,
            queue_bytes: 10_000,
            loss: Loss::None,
            jitter: Jitter::None,
            payload_limit: 1472,
        }
    }

    fn link(spec: LinkSpec) -> Link {
        Link::new(spec, Random::new(1))
    }

    #[test]
    fn a_packet_takes_its_serialisation_and_the_delay() {
        let now = Instant::now();
        // 1,000 bytes on the wire at 8 Mb/s are a millisecond.
        assert_eq!(link(spec()).offer(now, 972), Some(now + 11 * MILLISECOND));
    }

    #[test]
    fn a_packet_waits_for_those_before_it() {
        let now = Instant::now();
        let mut link = link(spec());
        link.offer(now, 972);
        assert_eq!(link.offer(now, 972), Some(now + 12 * MILLISECOND));
    }

    #[test]
    fn a_full_queue_drops_what_comes_on_top_and_drains_at_the_rate() {
        let now = Instant::now();
        let mut link = link(spec());
        let accepted = (0..20).filter_map(|_| link.offer(now, 972)).count();
        assert_eq!((accepted, link.counts.overflowed), (10, 10));
        assert!(link.offer(now + MILLISECOND, 972).is_some());
        assert!(link.offer(now + MILLISECOND, 972).is_none());
    }

    #[test]
    fn a_packet_over_the_limit_does_not_pass() {
        let mut link = link(spec());
        assert_eq!(link.offer(Instant::now(), 1473), None);
        assert_eq!(link.counts.too_large, 1);
    }

    #[test]
    fn loss_of_both_kinds_has_the_rate_asked_for_and_bursts_their_length() {
        const PACKETS: u64 = 200_000;
        let now = Instant::now();
        for (loss, expected_run) in [
            (Loss::Independent { probability: 0.02 }, 1.02),
            (Loss::bursts(0.02, 5.0), 5.0),
        ] {
            let mut link = link(LinkSpec {
                queue_bytes: u64::MAX,
                loss,
                ..spec()
            });
            let arrived: Vec<bool> = (0..PACKETS)
                .map(|_| link.offer(now, 100).is_some())
                .collect();
            let rate = link.counts.lost as f64 / PACKETS as f64;
            let runs = arrived
                .windows(2)
                .filter(|pair| pair[0] && !pair[1])
                .count();
            let run = link.counts.lost as f64 / runs as f64;
            assert!((rate / 0.02 - 1.0).abs() < 0.1, "{loss:?}: {rate}");
            assert!((run / expected_run - 1.0).abs() < 0.1, "{loss:?}: {run}");
        }
    }

    #[test]
    fn jitter_stays_within_its_amount_and_keeps_the_order_when_told() {
        let amount = 2 * MILLISECOND;
        for (jitter, reorders) in [
            (Jitter::InOrder { amount }, false),
            (Jitter::Reordering { amount }, true),
        ] {
            let mut link = link(LinkSpec {
                jitter,
                bits_per_second: 1_000_000_000_000,
                ..spec()
            });
            let start = Instant::now();
            let arrivals: Vec<_> = (0..1_000)
                .filter_map(|i| link.offer(start + i * MILLISECOND / 10, 100))
                .collect();
            let overtaken = arrivals.windows(2).any(|pair| pair[1] < pair[0]);
            assert_eq!(overtaken, reorders, "{jitter:?}");
            for (i, arrival) in arrivals.iter().enumerate() {
                let delay = *arrival - (start + i as u32 * MILLISECOND / 10);
                assert!(
                    delay >= 8 * MILLISECOND && delay < 13 * MILLISECOND,
                    "{delay:?}"
                );
            }
        }
    }
}
