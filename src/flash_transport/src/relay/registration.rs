//! How an end keeps itself registered at its relay. Pure.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::message::{self, Cookie, EndId, Refusal, LIFETIME};
use super::token::{Name, Role, Token};

/// Between renewals. They keep a NAT's entry, and find out that the relay was restarted while the
/// QUIC connection still waits.
const RENEWAL: Duration = Duration::from_secs(2);
/// Between a client's first registrations, until something of its server has come.
const HURRY: Duration = Duration::from_millis(250);
/// Pauses between registrations without an answer.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// One challenge is answered at a time: every datagram to a restarted relay brings another one.
const ONE_ANSWER: Duration = Duration::from_millis(200);

/// Who registers, and as what.
#[derive(Debug, Clone)]
pub struct Applicant {
    pub role: Role,
    pub name: Name,
    pub token: Token,
    pub end: EndId,
    /// The end's own address, for peers behind the same NAT.
    pub local: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The relay has not answered yet, or for long.
    Silent,
    /// Seen by the relay at this address.
    Registered(SocketAddr),
    Refused(Refusal),
}

#[derive(Debug)]
pub struct Registration {
    applicant: Applicant,
    cookie: Option<Cookie>,
    standing: Standing,
    due: Instant,
    sent: Option<Instant>,
    answered: Option<Instant>,
    unanswered: u32,
}

impl Registration {
    pub fn new(applicant: Applicant, now: Instant) -> Self {
        Self {
            applicant,
            cookie: None,
            standing: Standing::Silent,
            due: now,
            sent: None,
            answered: None,
            unanswered: 0,
        }
    }

    pub fn applicant(&self) -> &Applicant {
        &self.applicant
    }

    /// The end's own address is another one now.
    pub fn set_local(&mut self, local: Option<SocketAddr>) {
        self.applicant.local = local;
    }

    /// The cookie of the latest registration, which what the relay says must hold.
    pub fn cookie(&self) -> Option<Cookie> {
        self.cookie
    }

    pub fn standing(&self, now: Instant) -> Standing {
        let answered = self
            .answered
            .is_some_and(|at| now.saturating_duration_since(at) < LIFETIME);
        if answered {
            self.standing
        } else {
            Standing::Silent
        }
    }

    /// When to [`poll`](Self::poll) next.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// The registration to send now, if it is time.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        if now < self.due {
            return None;
        }
        let doubled = FIRST_PAUSE * 2_u32.pow(self.unanswered.min(8));
        self.unanswered = self.unanswered.saturating_add(1);
        self.due = now + doubled.min(LONGEST_PAUSE);
        self.sent = Some(now);
        let Applicant {
            role,
            name,
            token,
            end,
            local,
        } = &self.applicant;
        Some(message::register(
            *role,
            *end,
            self.cookie,
            name,
            *local,
            token,
        ))
    }

    /// The relay asks for a registration with this cookie.
    pub fn challenged(&mut self, now: Instant, cookie: Cookie) {
        let is_answered = self.cookie == Some(cookie)
            && self
                .sent
                .is_some_and(|at| now.saturating_duration_since(at) < ONE_ANSWER);
        if !is_answered {
            self.cookie = Some(cookie);
            self.due = now;
        }
    }

    pub fn registered(&mut self, now: Instant, public: SocketAddr, is_in_a_hurry: bool) {
        let pause = if is_in_a_hurry { HURRY } else { RENEWAL };
        self.answered(now, Standing::Registered(public), pause);
    }

    pub fn refused(&mut self, now: Instant, refusal: Refusal) {
        self.answered(now, Standing::Refused(refusal), RENEWAL);
    }

    fn answered(&mut self, now: Instant, standing: Standing, pause: Duration) {
        self.standing = standing;
        self.answered = Some(now);
        self.unanswered = 0;
        self.due = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: ([u8; 4], u16) = ([203, 0, 113, 7], 9);

    fn registration(now: Instant) -> Registration {
        let applicant = Applicant {
            role: Role::Client,
            name: Name::new("lab1").unwrap(),
            token: Token::new(&"a".repeat(32)).unwrap(),
            end: [1; 8],
            local: None,
        };
        Registration::new(applicant, now)
    }

    /// Milliseconds at which it sends, if nothing else happens.
    fn sends(registration: &mut Registration, start: Instant, until: u64) -> Vec<u64> {
        let mut sent = Vec::new();
        while registration.due() < start + Duration::from_millis(until) {
            let now = registration.due();
            assert!(registration.poll(now).is_some() && registration.poll(now).is_none());
            sent.push(now.saturating_duration_since(start).as_millis() as u64);
        }
        sent
    }

    #[test]
    fn an_unanswered_registration_is_sent_again_after_growing_pauses() {
        let start = Instant::now();
        let mut registration = registration(start);
        let sent = sends(&mut registration, start, 4000);
        assert_eq!(sent, [0, 250, 750, 1750, 2750, 3750]);
        assert_eq!(registration.standing(start), Standing::Silent);
    }

    #[test]
    fn a_registration_is_renewed_every_two_seconds_and_counts_for_ten() {
        let start = Instant::now();
        let mut registration = registration(start);
        registration.registered(start, PUBLIC.into(), false);
        assert_eq!(sends(&mut registration, start, 2100), [2000]);
        let later = |seconds| start + Duration::from_secs(seconds);
        let seen = Standing::Registered(PUBLIC.into());
        assert_eq!(registration.standing(later(9)), seen);
        assert_eq!(registration.standing(later(10)), Standing::Silent);
    }

    #[test]
    fn a_challenge_is_answered_at_once_and_once() {
        let start = Instant::now();
        let mut registration = registration(start);
        registration.registered(start, PUBLIC.into(), false);
        for _ in 0..5 {
            registration.challenged(start, [7; 16]);
            let _ = registration.poll(start);
        }
        assert!(registration.due() > start);
        registration.challenged(start, [8; 16]);
        assert!(registration.poll(start).is_some());
        assert_eq!(registration.cookie(), Some([8; 16]));
    }
}
