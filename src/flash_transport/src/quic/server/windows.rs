//! How many bytes each connection may have on the way to us that nobody has read: the part of a peer's memory with us that
//! the accounts in `limits` do not see, because QUIC holds what comes out of order.

use quinn::VarInt;

use super::shared::Shared;

/// A connection without a good hello: many times a hello, and a request of three small images that follows it at once.
pub(super) const STRANGERS_WINDOW: u32 = 1 << 20;
/// For all connections together.
const ALL: u64 = 1 << 30;
/// Each has at least this, for a request of three raw 640x480 images without waiting for credit.
const LEAST: u64 = 4 << 20;

/// What each of so many known clients may have.
fn share(most: u32, clients: usize) -> u32 {
    let share = (ALL / clients.max(1) as u64).max(LEAST);
    u32::try_from(share).unwrap_or(u32::MAX).min(most)
}

/// A client has become known: give everybody their share.
pub(super) fn divide(shared: &Shared) {
    let mut peers = shared.peers.all();
    peers.retain(|peer| peer.session().is_some());
    let share = share(shared.receive_window, peers.len());
    for peer in peers {
        peer.connection.set_receive_window(VarInt::from_u32(share));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_clients_have_the_whole_window_and_many_share() {
        let most = 32 << 20;
        assert_eq!(share(most, 0), most);
        assert_eq!(share(most, 1), most);
        assert_eq!(share(most, 32), most);
        assert_eq!(share(most, 64), most / 2);
        assert_eq!(share(most, 256), 4 << 20);
        assert_eq!(share(most, 100_000), 4 << 20);
        assert_eq!(
            share(1 << 20, 1),
            1 << 20,
            "never more than the link is set to"
        );
    }
}
