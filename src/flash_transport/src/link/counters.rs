//! What a server has counted since its start.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Counters {
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.value()),)*]
            }
        }
    };
}

counters! {
    /// Connections whose handshake succeeded.
    connections_accepted,
    /// Connections refused because there were too many.
    connections_refused,
    /// Good hellos in the first flight of a client that resumed a session (0-RTT).
    hellos_resumed,
    /// Failed handshakes, most often of a peer that speaks another protocol.
    handshakes_failed,
    /// Hellos with a missing or wrong api key, and connections without a hello in time.
    clients_unauthenticated,
    /// Hellos refused for a missing or wrong api key, which ended their connections, or because they were malformed.
    hellos_refused,
    /// Connections closed early because the client's host reported that the client is gone, or
    /// because a new connection took over its session and it was silent.
    clients_gone,
    /// Datagrams received.
    datagrams_received,
    /// Datagrams among them that belong to no connection: no QUIC, another version, or an unknown
    /// connection id.
    datagrams_garbage,
    /// Requests handed to the policy.
    requests_accepted,
    /// Requests answered with an error before the policy saw them.
    requests_refused,
    /// Requests whose client left or cancelled before the answer.
    requests_cancelled,
    /// Answers sent, results and errors of the policy.
    answers_sent,
    /// Answers dropped because their clients did not read them.
    answers_unread,
    /// Bytes of repair sent with answers.
    repair_bytes_sent,
    /// Requests of which repair replaced lost packets.
    requests_rebuilt,
    /// Messages whose repair was wrong, which cost nothing but that.
    repair_refused,
}

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
