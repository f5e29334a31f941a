//! The receive window of each connection: bytes that have arrived and are not read yet. QUIC holds
//! them, so the accounts in `limits` do not count them.

use quinn::VarInt;

use super::shared::Shared;

/// For an unauthenticated connection: many times a hello, and a request of three small images sent
/// right behind it.
pub(super) const STRANGERS_WINDOW: u32 = 1 << 20;
/// For all connections together.
const ALL: u64 = 1 << 30;
/// Least window of each client: a request of three raw 640x480 images need not wait for credit.
const LEAST: u64 = 4 << 20;

/// The window of each of `clients` authenticated clients.
fn share(most: u32, clients: usize) -> u32 {
    let share = (ALL / clients.max(1) as u64).max(LEAST);
    u32::try_from(share).unwrap_or(u32::MAX).min(most)
}

/// Divide the memory anew, when a client has been authenticated.
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
