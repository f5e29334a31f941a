//! What a server has seen since its start.

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
    /// Connections turned away because there were too many.
    connections_refused,
    /// Good hellos that came with the first flight of a client that had been here before.
    hellos_resumed,
    /// Handshakes that failed, most often because the peer speaks another protocol.
    handshakes_failed,
    /// Hellos with a missing or wrong api key, and connections without a hello in time.
    clients_unauthenticated,
    /// Hellos refused for a missing or wrong api key, which ended their connections, or because they were malformed.
    hellos_refused,
    /// Connections closed early because the client's host said that the client is gone, or because a new connection
    /// took its session over and it was silent.
    clients_gone,
    /// Datagrams that came.
    datagrams_received,
    /// Those of them that cannot belong to a connection: no QUIC, another version, or a connection that there never was.
    datagrams_garbage,
    /// Requests handed to the policy.
    requests_accepted,
    /// Requests answered with an error before the policy saw them.
    requests_refused,
    /// Requests whose client left or lost interest before the answer.
    requests_cancelled,
    /// Answers sent, results and errors of the policy.
    answers_sent,
    /// Answers given up because their clients did not read them.
    answers_unread,
}

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
