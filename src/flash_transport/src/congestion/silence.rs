//! What may be sent while nothing is acknowledged.

use std::time::{Duration, Instant};

/// If a burst of loss takes all of a window's last packets, the window stays full of them, no probe
/// can leave, and quinn sends two packets each time its pause has doubled. After this many pauses in
/// which nothing was acknowledged, which no queue makes ...
const PAUSES_OF_SILENCE: u64 = 2;
/// ... there is room for so many packets, after each further one for twice as many and so many, ...
const PACKETS_IN_SILENCE: u64 = 15;
/// ... up to this. Acknowledgements may be what is lost, and each burst of those takes as many packets
/// to end. 500 requests on Wi-Fi with bursts of 15 packets on average, 20 seeds: without it some take
/// 1 to 10 s, and one connection ends; with 6 packets more after each pause, up to 60, it still ends;
/// with this no request takes a second. With room after the first pause it would be 0.3 s, but a
/// download on the same path loses a tenth.
const MOST_PACKETS_IN_SILENCE: u64 = 200;

/// Room for packets while nothing is acknowledged.
#[derive(Debug, Clone, Default)]
pub(super) struct Silence {
    /// When the last packet left, if none was acknowledged since.
    unanswered: Option<Instant>,
    pub round_trip: Duration,
    pauses: u64,
}

impl Silence {
    pub fn acknowledged(&mut self, round_trip: Duration) {
        *self = Self {
            unanswered: None,
            round_trip,
            pauses: 0,
        };
    }

    pub fn sent(&mut self, now: Instant) {
        let still = |last| now.saturating_duration_since(last) > self.round_trip;
        if self.unanswered.replace(now).is_some_and(still) {
            self.pauses += 1;
        }
    }

    pub fn packets(&self) -> u64 {
        let pauses = self.pauses.saturating_sub(PAUSES_OF_SILENCE);
        let doublings = u32::try_from(pauses).unwrap_or(u32::MAX);
        let room = 2u64.saturating_pow(doublings) - 1;
        room.saturating_mul(PACKETS_IN_SILENCE)
            .min(MOST_PACKETS_IN_SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(20);

    #[test]
    fn silence_leaves_room_for_some_packets_and_a_pause_does_not() {
        let mut silence = Silence::default();
        let mut now = Instant::now();
        silence.acknowledged(ROUND_TRIP);
        now += Duration::from_secs(1);
        silence.sent(now);
        assert_eq!(silence.packets(), 0);
        let rooms: Vec<u64> = (0..100)
            .map(|_| {
                now += 3 * ROUND_TRIP;
                silence.sent(now);
                silence.sent(now);
                silence.packets()
            })
            .collect();
        assert_eq!(rooms[..7], [0, 0, 15, 45, 105, 200, 200]);
        assert_eq!(rooms.last(), Some(&200));
        silence.acknowledged(ROUND_TRIP);
        assert_eq!(silence.packets(), 0);
    }
}
