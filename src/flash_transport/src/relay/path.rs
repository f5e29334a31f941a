//! Whether an end reaches its peer directly, or through the relay. Pure.
//!
//! Both ends send probes to the addresses that the relay told them, which opens their NATs for each
//! other. An address that answers is used for as long as it does; what goes through the relay
//! meanwhile still arrives. Each end decides for what it sends.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// First probes of an address: so many, so close, because both ends must send before either is let
/// through.
const FIRST_PROBES: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Pauses between further ones, doubled each time. Within the longest, a NAT still has the entry of
/// the other end's last probe.
const SECOND_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// Between the probes of an address that answers.
const CHECK: Duration = Duration::from_millis(250);
/// An address without an answer for so long is not used: four probes, and a long round trip.
const DEAD_AFTER: Duration = Duration::from_millis(1200);
/// An address that failed must answer for so long before it is used again, twice as long each time.
const FIRST_HOLD: Duration = Duration::from_secs(1);
const LONGEST_HOLD: Duration = Duration::from_secs(60);
/// After so long without a failure it is as good as new.
const TROUBLE_FORGOTTEN: Duration = Duration::from_secs(60);
/// Addresses that are probed.
const MOST_CANDIDATES: usize = 4;
/// Probes of an address that may still be answered.
const MOST_UNDER_WAY: usize = 16;

#[derive(Debug)]
pub struct Path {
    candidates: Vec<Candidate>,
    chosen: Option<Chosen>,
    hold: Duration,
    nonce: u64,
}

#[derive(Debug, Clone, Copy)]
struct Chosen {
    address: SocketAddr,
    since: Instant,
}

#[derive(Debug)]
struct Candidate {
    address: SocketAddr,
    due: Instant,
    tries: u32,
    under_way: VecDeque<u64>,
    life: Option<Life>,
}

/// Of a candidate that answers.
#[derive(Debug, Clone, Copy)]
struct Life {
    since: Instant,
    answered: Instant,
}

impl Path {
    /// Through the relay, at first. Probes have numbers from `first_nonce` on.
    pub fn new(first_nonce: u64) -> Self {
        Self {
            candidates: Vec::new(),
            chosen: None,
            hold: Duration::ZERO,
            nonce: first_nonce,
        }
    }

    /// The peer may be reached here.
    pub fn learn(&mut self, now: Instant, address: SocketAddr) {
        if self.candidates.iter().any(|known| known.address == address) {
            return;
        }
        if self.candidates.len() >= MOST_CANDIDATES {
            let dead = |candidate: &Candidate| candidate.life.is_none();
            let Some(oldest) = self.candidates.iter().position(dead) else {
                return;
            };
            self.candidates.remove(oldest);
        }
        self.candidates.push(Candidate {
            address,
            due: now,
            tries: 0,
            under_way: VecDeque::new(),
            life: None,
        });
    }

    /// Where to send now; `None`: to the relay.
    pub fn direct(&mut self, now: Instant) -> Option<SocketAddr> {
        self.judge(now);
        self.chosen.map(|chosen| chosen.address)
    }

    /// When to [`poll`](Self::poll) next.
    pub fn due(&self) -> Option<Instant> {
        self.candidates.iter().map(|candidate| candidate.due).min()
    }

    /// The probes to send now: where, and their numbers.
    pub fn poll(&mut self, now: Instant) -> Vec<(SocketAddr, u64)> {
        self.judge(now);
        let mut probes = Vec::new();
        for candidate in &mut self.candidates {
            if candidate.due > now {
                continue;
            }
            candidate.due = now + candidate.pause();
            candidate.tries = candidate.tries.saturating_add(1);
            if candidate.under_way.len() >= MOST_UNDER_WAY {
                candidate.under_way.pop_front();
            }
            candidate.under_way.push_back(self.nonce);
            probes.push((candidate.address, self.nonce));
            self.nonce = self.nonce.wrapping_add(1);
        }
        probes
    }

    /// The peer has answered a probe.
    pub fn reached(&mut self, now: Instant, nonce: u64) {
        // By its number, not by where the answer came from: that may be another address of the peer.
        let asked = self.candidates.iter_mut().find_map(|candidate| {
            let at = candidate.under_way.iter().position(|sent| *sent == nonce)?;
            candidate.under_way.remove(at);
            Some(candidate)
        });
        if let Some(candidate) = asked {
            let since = candidate.life.map_or(now, |life| life.since);
            candidate.life = Some(Life {
                since,
                answered: now,
            });
            candidate.due = candidate.due.min(now + CHECK);
        }
        self.judge(now);
    }

    /// Give up what does not answer, and choose what does.
    fn judge(&mut self, now: Instant) {
        for candidate in &mut self.candidates {
            let is_dead = |life: Life| now.saturating_duration_since(life.answered) >= DEAD_AFTER;
            if candidate.life.is_some_and(is_dead) {
                candidate.life = None;
                candidate.tries = 0;
                candidate.due = candidate.due.min(now);
            }
        }
        let life_of = |address| {
            let mut candidates = self.candidates.iter();
            candidates.find(|known| known.address == address)?.life
        };
        if let Some(chosen) = self.chosen {
            let used = now.saturating_duration_since(chosen.since);
            if used >= TROUBLE_FORGOTTEN {
                self.hold = Duration::ZERO;
            }
            if life_of(chosen.address).is_some() {
                return;
            }
            self.chosen = None;
            self.hold = (self.hold * 2).clamp(FIRST_HOLD, LONGEST_HOLD);
        }
        let hold = self.hold;
        let is_fit = |candidate: &&Candidate| {
            let held = |life: Life| now.saturating_duration_since(life.since) >= hold;
            candidate.life.is_some_and(held)
        };
        self.chosen = self.candidates.iter().find(is_fit).map(|candidate| Chosen {
            address: candidate.address,
            since: now,
        });
    }
}

impl Candidate {
    /// To the probe after this one.
    fn pause(&self) -> Duration {
        if self.life.is_some() {
            return CHECK;
        }
        match self.tries.checked_sub(FIRST_PROBES) {
            None => FIRST_PAUSE,
            Some(later) => (SECOND_PAUSE * 2_u32.pow(later.min(8))).min(LONGEST_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests;
