//! What a server tells its operator of its clients: who came, who left, who was refused. Bounded, whatever clients do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Events that wait to be read; beyond, they are only counted.
const MOST_EVENTS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEventKind {
    /// A hello was accepted.
    Connected,
    /// A client whose hello was accepted has left.
    Disconnected,
    /// A hello was refused, or none came in time.
    Refused,
}

impl ClientEventKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEvent {
    pub kind: ClientEventKind,
    /// `ip:port#connection` or `pid=…,uid=…#connection`; of a refusal only `ip`, `ip-network/64` or `uid=…`.
    pub client: Arc<str>,
    /// The session, or why the hello was refused. Holds no control characters.
    pub detail: String,
    /// How often it happened since the events were last taken; more than 1 only for refusals.
    pub count: u64,
}

/// The events since they were last taken.
#[derive(Debug, Default)]
pub struct ClientEvents {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<ClientEvent>,
    lost: u64,
}

impl ClientEvents {
    /// Note an event. A refusal that was noted before is counted there.
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
        waiting.events.push_back(ClientEvent {
            kind,
            client: client.clone(),
            detail: detail.to_owned(),
            count: 1,
        });
    }

    /// The events that were not taken before, oldest first, and how many were lost for want of room.
    pub fn take(&self) -> (Vec<ClientEvent>, u64) {
        let Waiting { events, lost } = std::mem::take(&mut *self.lock());
        (events.into(), lost)
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

    #[test]
    fn events_are_taken_once_in_the_order_of_their_coming() {
        let events = ClientEvents::default();
        events.note(ClientEventKind::Connected, &client("10.0.0.7:1#1"), "arm");
        events.note(
            ClientEventKind::Disconnected,
            &client("10.0.0.7:1#1"),
            "arm",
        );
        let (taken, lost) = events.take();
        let kinds: Vec<_> = taken.iter().map(|event| event.kind.name()).collect();
        assert_eq!((kinds, lost), (vec!["connected", "disconnected"], 0));
        assert_eq!(events.take(), (Vec::new(), 0));
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
        let counts: Vec<_> = events.take().0.iter().map(|event| event.count).collect();
        assert_eq!(counts, [2, 1, 1]);
    }

    #[test]
    fn events_that_nobody_takes_are_counted_and_forgotten() {
        let events = ClientEvents::default();
        for number in 0..MOST_EVENTS + 5 {
            events.note(ClientEventKind::Connected, &client(&number.to_string()), "");
        }
        let (taken, lost) = events.take();
        assert_eq!((taken.len(), lost), (MOST_EVENTS, 5));
    }
}
