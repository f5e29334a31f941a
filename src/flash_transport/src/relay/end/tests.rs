use super::*;
use crate::relay::forwarding::{Relay, RelayLimits, Step};
use crate::relay::token::{Name, Token};
use proptest::prelude::*;

const RELAY: ([u8; 4], u16) = ([198, 51, 100, 9], 5557);
const SERVER: ([u8; 4], u16) = ([198, 51, 100, 1], 5555);
const CLIENT: ([u8; 4], u16) = ([203, 0, 113, 7], 40_000);
const CONNECTION: EndId = [2; 8];
const ONE_WAY: Duration = Duration::from_millis(10);

fn token() -> Token {
    Token::new(&"a".repeat(32)).unwrap()
}

fn applicant(role: Role, end: EndId) -> Applicant {
    Applicant {
        role,
        name: Name::new("lab1").unwrap(),
        token: token(),
        end,
        local: None,
    }
}

fn end(applicant: Applicant, now: Instant) -> End {
    let mut end = End::new(applicant, now);
    end.set_relay(RELAY.into(), None);
    end
}

fn relay(now: Instant) -> Relay {
    let tokens = [(Name::new("lab1").unwrap(), token())];
    Relay::new(tokens.into(), RelayLimits::default(), now).unwrap()
}

/// What is between an end and the others.
#[derive(Clone, Copy, PartialEq)]
enum Nat {
    None,
    /// Lets in only who was sent to.
    Restricted,
    /// The same, and everyone that is sent to, but the relay, sees another port.
    Symmetric,
}

/// A NAT's entry lives for so long.
const ENTRY: Duration = Duration::from_secs(30);

/// A server, a relay and a client in virtual time. The ways to and from the relay are open, the
/// direct one if `opens`, as far as the NATs in front of server and client let through.
struct World {
    now: Instant,
    relay: Option<Relay>,
    server: End,
    client: End,
    opens: bool,
    nats: [Nat; 2],
    /// When one address has last sent to another.
    entries: HashMap<(SocketAddr, SocketAddr), Instant>,
    /// One datagram in so many is lost, at random; 0: none.
    lost_one_in: u32,
    sent: u32,
    under_way: Vec<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
    /// What QUIC has got: as from whom, and what.
    at_server: Vec<(SocketAddr, Vec<u8>)>,
    at_client: Vec<(SocketAddr, Vec<u8>)>,
}

impl World {
    fn new(opens: bool) -> Self {
        let now = Instant::now();
        Self {
            now,
            relay: Some(relay(now)),
            server: end(applicant(Role::Server, [1; 8]), now),
            client: end(applicant(Role::Client, CONNECTION), now),
            opens,
            nats: [Nat::None; 2],
            entries: HashMap::new(),
            lost_one_in: 0,
            sent: 0,
            under_way: Vec::new(),
            at_server: Vec::new(),
            at_client: Vec::new(),
        }
    }

    fn carry(&mut self, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        self.sent += 1;
        let random = self.sent.wrapping_mul(2_654_435_761) >> 12;
        let is_lost = self.lost_one_in != 0 && random.is_multiple_of(self.lost_one_in);
        let is_relayed = from == RELAY.into() || to == RELAY.into();
        let seen = match self.nat_of(from) {
            Nat::Symmetric if !is_relayed => SocketAddr::new(from.ip(), from.port() + 1),
            _ => from,
        };
        self.entries.insert((seen, to), self.now);
        if (is_relayed || self.opens) && !is_lost {
            let arrival = self.now + ONE_WAY;
            self.under_way.push((arrival, seen, to, datagram));
        }
    }

    /// Of the end with this IP address; the relay has none.
    fn nat_of(&self, address: SocketAddr) -> Nat {
        let ends: [SocketAddr; 2] = [SERVER.into(), CLIENT.into()];
        let place = ends.iter().position(|end| end.ip() == address.ip());
        place.map_or(Nat::None, |place| self.nats[place])
    }

    fn lets_in(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let is_fresh = |at: &Instant| self.now.saturating_duration_since(*at) < ENTRY;
        self.nat_of(to) == Nat::None || self.entries.get(&(to, from)).is_some_and(is_fresh)
    }

    fn pass(&mut self, seconds: f64) {
        for _ in 0..(seconds * 200.0) as u32 {
            self.now += Duration::from_millis(5);
            let now = self.now;
            let (due, later) = std::mem::take(&mut self.under_way)
                .into_iter()
                .partition(|(at, ..)| *at <= now);
            self.under_way = later;
            for (_, from, to, datagram) in due {
                self.deliver(from, to, &datagram);
            }
            for (whose, sends) in [
                (SERVER, self.server.poll(now)),
                (CLIENT, self.client.poll(now)),
            ] {
                for (to, datagram) in sends {
                    self.carry(whose.into(), to, datagram);
                }
            }
            if let Some(relay) = &mut self.relay {
                relay.expire(now);
            }
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let now = self.now;
        if !self.lets_in(from, to) {
            return;
        }
        if to == RELAY.into() {
            let Some(relay) = &mut self.relay else {
                return;
            };
            let step = relay.handle(now, from, datagram);
            let mut sends = relay.take_answers();
            if let Step::Forward(to) = step {
                sends.push((to, datagram.to_vec()));
            }
            for (to, datagram) in sends {
                self.carry(to_relay(), to, datagram);
            }
            return;
        }
        let (end, got) = match to.ip() == SocketAddr::from(SERVER).ip() {
            true => (&mut self.server, &mut self.at_server),
            false => (&mut self.client, &mut self.at_client),
        };
        if let Incoming::Quic(peer) = end.handle(now, from, datagram) {
            got.push((peer, datagram[DATA_HEADER..].to_vec()));
        }
    }

    /// QUIC of the client sends; whether it went directly.
    fn client_sends(&mut self, quic: &[u8]) -> bool {
        let server = self.client.server().expect("introduced");
        let (to, header) = self.client.way_to(self.now, server).expect("known");
        self.carry(CLIENT.into(), to, [&header[..], quic].concat());
        to != to_relay()
    }

    fn server_answers(&mut self, quic: &[u8]) -> bool {
        let peer = self.at_server.last().expect("something came").0;
        let (to, header) = self.server.way_to(self.now, peer).expect("known");
        self.carry(SERVER.into(), to, [&header[..], quic].concat());
        to != to_relay()
    }
}

fn to_relay() -> SocketAddr {
    RELAY.into()
}

const PACKET: [u8; 40] = [0x40; 40];

#[test]
fn both_ends_meet_through_the_relay_within_three_round_trips() {
    let mut world = World::new(false);
    world.pass(0.1);
    assert!(world.client.server().is_some());
    assert!(!world.client_sends(&PACKET));
    world.pass(0.05);
    assert_eq!(world.at_server.len(), 1);
    assert_eq!(world.at_server[0].1, PACKET);
    assert!(stands_for_a_peer(world.at_server[0].0));
    assert!(!world.server_answers(&PACKET));
    world.pass(0.05);
    assert_eq!(
        world.at_client,
        [(world.client.server().unwrap(), PACKET.to_vec())]
    );
}

#[test]
fn where_the_direct_way_opens_it_is_used_and_quic_sees_no_other_address() {
    let mut world = World::new(false);
    world.pass(0.2);
    assert!(!world.client_sends(&PACKET));
    world.pass(0.1);
    world.opens = true;
    world.pass(0.3);
    assert!(world.client_sends(&PACKET) && world.server_answers(&PACKET));
    world.opens = false;
    world.pass(1.5);
    assert!(!world.client_sends(&PACKET) && !world.server_answers(&PACKET));
    world.opens = true;
    world.pass(20.0);
    assert!(world.client_sends(&PACKET) && world.server_answers(&PACKET));
    world.pass(0.1);
    assert_eq!(world.at_server.len(), 4);
    let first = world.at_server[0].0;
    assert!(world.at_server.iter().all(|(peer, _)| *peer == first));
}

/// Whether both soon send directly, and it arrives.
fn meet_directly(mut world: World) -> bool {
    world.pass(1.0);
    let sent = world.client_sends(&PACKET);
    world.pass(0.1);
    let answered = world.server_answers(&PACKET);
    world.pass(0.1);
    sent && answered && world.at_client.len() == 1
}

#[test]
fn two_behind_nats_that_keep_their_ports_reach_each_other() {
    let mut world = World::new(true);
    world.nats = [Nat::Restricted; 2];
    assert!(meet_directly(world));
}

#[test]
fn a_client_whose_nat_changes_its_port_reaches_a_server_that_has_none() {
    let mut world = World::new(true);
    world.nats = [Nat::None, Nat::Symmetric];
    assert!(meet_directly(world));
}

#[test]
fn two_whose_nats_change_their_ports_stay_with_the_relay() {
    let mut world = World::new(true);
    world.nats = [Nat::Symmetric; 2];
    for _ in 0..60 {
        world.pass(1.0);
        assert!(!world.client_sends(&PACKET));
    }
    assert!(!world.server_answers(&PACKET));
    assert_eq!(world.at_server.len(), 59);
}

#[test]
fn a_relay_that_restarts_carries_the_connection_again_within_two_seconds_and_a_half() {
    let mut world = World::new(false);
    world.pass(1.0);
    world.client_sends(&PACKET);
    world.pass(0.1);
    world.relay = None;
    world.pass(3.0);
    world.relay = Some(relay(world.now));
    // As QUIC's keep-alive does.
    world.client_sends(&PACKET);
    world.pass(2.5);
    let before = world.at_server.len();
    world.client_sends(&PACKET);
    world.pass(0.1);
    world.server_answers(&PACKET);
    world.pass(0.1);
    assert_eq!(world.at_server.len(), before + 1);
    assert_eq!(world.at_server[0].0, world.at_server[before].0);
    assert_eq!(world.at_client.len(), 1);
}

#[test]
fn the_direct_way_does_without_the_relay() {
    let mut world = World::new(true);
    world.pass(1.0);
    world.relay = None;
    for _ in 0..60 {
        world.pass(1.0);
        assert!(world.client_sends(&PACKET));
    }
    assert!(world.server_answers(&PACKET));
    assert_eq!(world.at_server.len(), 59);
}

#[test]
fn under_loss_both_ends_stay_registered_and_direct() {
    let mut world = World::new(true);
    world.lost_one_in = 20;
    world.pass(10.0);
    let direct = (0..300).filter(|_| {
        world.pass(0.1);
        world.client_sends(&PACKET)
    });
    assert!(direct.count() > 270);
    assert!(world.at_server.len() > 270);
    assert_eq!(
        world.client.standing(world.now),
        Standing::Registered(CLIENT.into())
    );
}

#[test]
fn what_others_say_in_the_relays_name_changes_nothing() {
    let mut world = World::new(false);
    world.pass(0.2);
    let now = world.now;
    let stranger = SocketAddr::from(([192, 0, 2, 9], 1));
    let other = Token::new(&"b".repeat(32)).unwrap();
    let cookie = world.client.registration.cookie().unwrap();
    let old = [0; 16];
    for said in [
        message::peer(CONNECTION, cookie, stranger, None, &other),
        message::peer(CONNECTION, old, stranger, None, &token()),
        message::peer([9; 8], cookie, stranger, None, &token()),
        message::refused([9; 8], Refusal::Taken),
        message::challenge([9; 8], [5; 16]),
        message::probe(Role::Server, CONNECTION, 1, &other),
        // Its own, sent back.
        message::probe(Role::Client, CONNECTION, 1, &token()),
    ] {
        world.client.handle(now, RELAY.into(), &said);
        assert!(!world.client.has_answers(), "{said:02x?}");
    }
    let asked = message::peer(CONNECTION, cookie, stranger, None, &token());
    assert_eq!(
        world.client.handle(now, stranger, &asked),
        Incoming::Foreign
    );
    let probed = |end: &mut End| {
        let sends = end.poll(now + Duration::from_millis(150));
        sends.into_iter().any(|(to, _)| to == stranger)
    };
    assert!(!probed(&mut world.client));
    assert_eq!(world.client.registration.cookie(), Some(cookie));
    assert_eq!(
        world.client.standing(now),
        Standing::Registered(CLIENT.into())
    );
}

#[test]
fn a_relay_cannot_point_an_end_at_itself_or_at_many_hosts() {
    let near = SocketAddr::from(RELAY);
    for refused in [
        "127.0.0.1:22",
        "0.0.0.0:5",
        "224.0.0.1:5",
        "203.0.113.7:0",
        "[2001:db8::1]:5",
        "240.0.0.1:1",
    ] {
        assert!(!may_be_probed(refused.parse().unwrap(), near), "{refused}");
    }
    assert!(may_be_probed(CLIENT.into(), near));
    assert!(may_be_probed(
        "127.0.0.1:5".parse().unwrap(),
        "127.0.0.1:9".parse().unwrap()
    ));
}

#[test]
fn peers_of_one_network_share_an_ip_address_and_end() {
    let mut world = World::new(false);
    world.pass(0.2);
    let cookie = world.server.registration.cookie().unwrap();
    let now = world.now;
    for (number, host) in [(11, 1), (12, 1), (13, 2)] {
        let public = SocketAddr::from(([203, 0, 113, host], u16::from(number)));
        let said = message::peer([number; 8], cookie, public, None, &token());
        world.server.handle(now, RELAY.into(), &said);
    }
    let standing = |end: &End, number: u8| end.peers[&[number; 8]].stands_for_it;
    let [first, second, third] = [11, 12, 13].map(|number| standing(&world.server, number));
    assert!(first != second && first.ip() == second.ip() && first.ip() != third.ip());
    assert_eq!(world.server.peers.len(), 4);
    world.relay = None;
    world.pass(32.0);
    assert!(world.server.peers.is_empty() && world.server.by_address.is_empty());
}

#[test]
fn datagrams_of_ordinary_clients_are_left_alone() {
    let mut world = World::new(false);
    world.pass(0.2);
    let (now, stranger) = (world.now, SocketAddr::from(([192, 0, 2, 9], 1)));
    for first in 0..=255 {
        let datagram = [[first].as_slice(), &[7; 60]].concat();
        assert_eq!(
            world.server.handle(now, stranger, &datagram),
            Incoming::Foreign
        );
    }
    assert!(End::is_foreign(Some(&0x40)) && End::is_foreign(Some(&0xc3)) && End::is_foreign(None));
    assert!(!End::is_foreign(Some(&0x06)));
}

proptest! {
    #[test]
    fn no_datagrams_make_it_panic_or_send_to_a_stranger(
        datagrams in proptest::collection::vec(
            (any::<bool>(), 0..10_u8, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..90)), 0..60
        )
    ) {
        let mut world = World::new(false);
        world.pass(0.2);
        let stranger = SocketAddr::from(([192, 0, 2, 9], 1));
        for (is_relay, kind, is_known, mut datagram) in datagrams {
            if let Some(first) = datagram.first_mut() {
                *first = kind;
            }
            if let Some(connection) = datagram.get_mut(1..9).filter(|_| is_known) {
                connection.copy_from_slice(&CONNECTION);
            }
            let from = if is_relay { RELAY.into() } else { stranger };
            world.client.handle(world.now, from, &datagram);
            world.server.handle(world.now, from, &datagram);
        }
        for end in [&mut world.client, &mut world.server] {
            for (to, _) in end.poll(world.now + Duration::from_secs(1)) {
                prop_assert!(to != stranger);
            }
        }
    }
}
