//! Events for the operator: which clients connected, disconnected or were refused. Bounded,
//! whatever clients do.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most events that wait to be read; further ones are only counted.
const MOST_EVENTS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEventKind {
    /// A hello was accepted.
    Connected,
    /// A client whose hello was accepted has left.
    Disconnected,
    /// A hello was refused, or none came in time.
    Refused,
    /// What the relay says of the server.
    Relay,
    /// Events were dropped because nothing read them.
    Lost,
}

impl ClientEventKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
            Self::Relay => "relay",
            Self::Lost => "lost",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEvent {
    pub kind: ClientEventKind,
    /// `ip:port#connection` or `pid=…,uid=…#connection`; for a refusal only `ip`, `ip-network/64`
    /// or `uid=…`. For the relay its address.
    pub client: Arc<str>,
    /// The session, the reason of the refusal, or what the relay says. Holds no control characters.
    pub detail: String,
    /// How often it happened since events were last taken; above 1 only for refusals.
    pub count: u64,
}

/// The events since they were last taken.
#[derive(Debug, Default)]
pub struct ClientEvents {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<ClientEvent>,
    lost: u64,
    is_closed: bool,
}

impl ClientEvents {
    /// Note an event. A repeated refusal only increases the count of the first.
    pub fn note(&self, kind: ClientEventKind, client: &Arc<str>, detail: &str) {
        let mut waiting = self.lock();
        if kind == ClientEventKind::Refused {
            let same = |event: &&mut ClientEvent| {
                event.kind == kind && event.client == *client && event.detail == detail
            };
            if let Some(event) = waiting.events.iter_mut().find(same) {
                event.count += 1;
                return;
            }
        }
        if waiting.events.len() >= MOST_EVENTS {
            waiting.lost += 1;
            return;
        }
        waiting.events.push(ClientEvent {
            kind,
            client: client.clone(),
            detail: detail.to_owned(),
            count: 1,
        });
        self.changed.notify_all();
    }

    /// The events not taken before, oldest first; waits up to `within` for one. `None` when the
    /// server is closed and all events were taken.
    pub fn next(&self, within: Duration) -> Option<Vec<ClientEvent>> {
        let nothing_new = |waiting: &mut Waiting| waiting.events.is_empty() && !waiting.is_closed;
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), within, nothing_new);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        if waiting.is_closed && waiting.events.is_empty() {
            return None;
        }
        let mut events = std::mem::take(&mut waiting.events);
        if waiting.lost > 0 {
            events.push(ClientEvent {
                kind: ClientEventKind::Lost,
                client: "".into(),
                detail: String::new(),
                count: std::mem::take(&mut waiting.lost),
            });
        }
        Some(events)
    }

    /// Accept no further events.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> Arc<str> {
        name.into()
    }

    fn taken(events: &ClientEvents) -> Vec<(&'static str, u64)> {
        let taken = events.next(Duration::ZERO).unwrap();
        let count = |event: &ClientEvent| (event.kind.name(), event.count);
        taken.iter().map(count).collect()
    }

    #[test]
    fn events_are_taken_once_in_the_order_of_their_coming() {
        let events = ClientEvents::default();
        let robot = client("10.0.0.7:1#1");
        events.note(ClientEventKind::Connected, &robot, "arm");
        events.note(ClientEventKind::Disconnected, &robot, "arm");
        assert_eq!(taken(&events), [("connected", 1), ("disconnected", 1)]);
        assert_eq!(taken(&events), []);
    }

    #[test]
    fn the_same_refusal_is_one_event_with_a_count() {
        let events = ClientEvents::default();
        for (name, why) in [
            ("10.0.0.7", "wrong"),
            ("10.0.0.8", "wrong"),
            ("10.0.0.7", "wrong"),
            ("10.0.0.7", "none"),
        ] {
            events.note(ClientEventKind::Refused, &client(name), why);
        }
        assert_eq!(
            taken(&events),
            [("refused", 2), ("refused", 1), ("refused", 1)]
        );
    }

    #[test]
    fn events_that_nobody_takes_are_counted_and_forgotten() {
        let events = ClientEvents::default();
        for number in 0..MOST_EVENTS + 5 {
            events.note(ClientEventKind::Connected, &client(&number.to_string()), "");
        }
        let taken = taken(&events);
        assert_eq!(
            (taken.len(), taken[MOST_EVENTS]),
            (MOST_EVENTS + 1, ("lost", 5))
        );
    }

    #[test]
    fn whoever_waits_is_woken_by_an_event_and_by_the_end() {
        let events = ClientEvents::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let first = events
                    .next(Duration::from_secs(60))
                    .map(|events| events.len());
                (first, events.next(Duration::from_secs(60)))
            });
            events.note(ClientEventKind::Connected, &client("10.0.0.7:1#1"), "arm");
            events.close();
            assert_eq!(waiting.join().unwrap(), (Some(1), None));
        });
    }
}
