use super::*;
use crate::relay::message::{data_header, register};
use proptest::prelude::*;

const SERVER: &str = "198.51.100.1:5555";
const CLIENT: &str = "203.0.113.7:40000";
const INSTANCE: EndId = [1; 8];
const CONNECTION: EndId = [2; 8];

fn token(letter: &str) -> Token {
    Token::new(&letter.repeat(32)).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A relay that knows `lab1` and `lab2`, and the time.
struct Bench {
    relay: Relay,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new(limits: RelayLimits) -> Self {
        let tokens = [("lab1", "a"), ("lab2", "b")];
        let tokens = tokens.map(|(text, letter)| (name(text), token(letter)));
        let now = Instant::now();
        Self {
            relay: Relay::new(tokens.into(), limits, now).unwrap(),
            start: now,
            now,
        }
    }

    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        self.relay.expire(self.now);
    }

    /// What the relay answers, as kinds and addresses.
    fn send(&mut self, from: &str, datagram: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        let step = self.relay.handle(self.now, at(from), datagram);
        assert!(!matches!(step, Step::Forward(_)), "{step:?}");
        self.relay.take_answers()
    }

    /// Register with the cookie that the relay asks for; what it answers then.
    fn join(
        &mut self,
        from: &str,
        role: Role,
        end: EndId,
        lab: &str,
        letter: &str,
    ) -> Vec<(SocketAddr, Vec<u8>)> {
        let (lab, token) = (name(lab), token(letter));
        let asked = self.send(from, &register(role, end, None, &lab, None, &token));
        let cookie = cookie_in(&asked[0].1);
        self.send(from, &register(role, end, Some(cookie), &lab, None, &token))
    }

    fn both(limits: RelayLimits) -> Self {
        let mut bench = Self::new(limits);
        bench.join(SERVER, Role::Server, INSTANCE, "lab1", "a");
        bench.join(CLIENT, Role::Client, CONNECTION, "lab1", "a");
        bench
    }

    fn data(&mut self, from: &str, connection: EndId, size: usize) -> Step {
        let datagram = [&data_header(connection)[..], &vec![7; size]].concat();
        self.relay.handle(self.now, at(from), &datagram)
    }
}

fn cookie_in(datagram: &[u8]) -> Cookie {
    match Message::parse(datagram) {
        Some(Message::Challenge { cookie, .. }) => cookie,
        other => panic!("no challenge: {other:?}"),
    }
}

fn refusal_in(answers: &[(SocketAddr, Vec<u8>)]) -> Option<Refusal> {
    answers
        .iter()
        .find_map(|(_, datagram)| match Message::parse(datagram) {
            Some(Message::Refused { refusal, .. }) => Some(refusal),
            _ => None,
        })
}

#[test]
fn datagrams_pass_unchanged_between_those_who_are_registered() {
    let mut bench = Bench::both(RelayLimits::default());
    assert_eq!(
        bench.data(CLIENT, CONNECTION, 1200),
        Step::Forward(at(SERVER))
    );
    assert_eq!(
        bench.data(SERVER, CONNECTION, 1200),
        Step::Forward(at(CLIENT))
    );
}

#[test]
fn both_learn_the_others_address() {
    let mut bench = Bench::new(RelayLimits::default());
    bench.join(SERVER, Role::Server, INSTANCE, "lab1", "a");
    let answers = bench.join(CLIENT, Role::Client, CONNECTION, "lab1", "a");
    let told = |whom: &str, of: &str| {
        answers
            .iter()
            .any(|(to, datagram)| match Message::parse(datagram) {
                Some(Message::Peer { public, signed, .. }) => {
                    let is_signed = signed.is_of(&token("a"), Role::Relay);
                    *to == at(whom) && public == Some(at(of)) && is_signed
                }
                _ => false,
            })
    };
    assert!(told(SERVER, CLIENT) && told(CLIENT, SERVER));
}

#[test]
fn a_client_without_a_server_is_told_so() {
    let mut bench = Bench::new(RelayLimits::default());
    let answers = bench.join(CLIENT, Role::Client, CONNECTION, "lab1", "a");
    assert_eq!(refusal_in(&answers), Some(Refusal::Absent));
}

#[test]
fn a_wrong_token_and_an_unknown_name_are_refused_alike() {
    let mut bench = Bench::new(RelayLimits::default());
    for (lab, letter) in [("lab1", "b"), ("lab3", "a")] {
        for role in [Role::Server, Role::Client] {
            let answers = bench.join(CLIENT, role, CONNECTION, lab, letter);
            assert_eq!(refusal_in(&answers), Some(Refusal::NotAdmitted), "{lab}");
            assert_eq!(answers.len(), 1);
        }
    }
    assert!(matches!(
        bench.relay.take_events()[0],
        RelayEvent::Refused(..)
    ));
}

#[test]
fn a_name_is_not_taken_over_by_another_token_nor_by_a_second_server() {
    let mut bench = Bench::both(RelayLimits::default());
    let thief = "192.0.2.9:1";
    let answers = bench.join(thief, Role::Server, [9; 8], "lab1", "b");
    assert_eq!(refusal_in(&answers), Some(Refusal::NotAdmitted));
    let answers = bench.join(thief, Role::Server, [9; 8], "lab1", "a");
    assert_eq!(refusal_in(&answers), Some(Refusal::Taken));
    assert_eq!(
        bench.data(CLIENT, CONNECTION, 1200),
        Step::Forward(at(SERVER))
    );
}

#[test]
fn a_replayed_registration_brings_its_sender_nothing() {
    let mut bench = Bench::new(RelayLimits::default());
    let lab = name("lab1");
    let asked = bench.send(
        SERVER,
        &register(Role::Server, INSTANCE, None, &lab, None, &token("a")),
    );
    let cookie = cookie_in(&asked[0].1);
    let recorded = register(
        Role::Server,
        INSTANCE,
        Some(cookie),
        &lab,
        None,
        &token("a"),
    );
    bench.send(SERVER, &recorded);
    let answers = bench.send("192.0.2.9:1", &recorded);
    assert!(matches!(
        Message::parse(&answers[0].1),
        Some(Message::Challenge { .. })
    ));
    bench.join(CLIENT, Role::Client, CONNECTION, "lab1", "a");
    assert_eq!(
        bench.data(CLIENT, CONNECTION, 1200),
        Step::Forward(at(SERVER))
    );
    // Nor does it later at the same address.
    bench.pass(130.0);
    let answers = bench.send(SERVER, &recorded);
    assert!(matches!(
        Message::parse(&answers[0].1),
        Some(Message::Challenge { .. })
    ));
}

#[test]
fn a_forged_connection_passes_nothing() {
    let mut bench = Bench::both(RelayLimits::default());
    let stranger = "192.0.2.9:1";
    // Somebody else's connection, an invented one, and one of another name.
    bench.join(stranger, Role::Server, [5; 8], "lab2", "b");
    for (from, connection) in [(stranger, CONNECTION), (stranger, [4; 8]), (CLIENT, [4; 8])] {
        assert_eq!(bench.data(from, connection, 1200), Step::Read);
        let answers = bench.relay.take_answers();
        assert_eq!((answers.len(), answers[0].0), (1, at(from)));
        assert_eq!(answers[0].1.len(), CHALLENGE);
    }
}

#[test]
fn strangers_get_no_more_than_they_send_and_leave_nothing() {
    let mut bench = Bench::new(RelayLimits::default());
    for number in 0..5000_u32 {
        let from = SocketAddr::from((std::net::Ipv4Addr::from(number), 1));
        let ask = register(Role::Client, [3; 8], None, &name("lab1"), None, &token("a"));
        for datagram in [&ask[..], &data_header([4; 8]), b"", &[0xff; 40]] {
            bench.relay.handle(bench.now, from, datagram);
            for (to, answer) in bench.relay.take_answers() {
                assert!(to == from && answer.len() <= datagram.len());
            }
        }
    }
    assert!(bench.relay.clients.is_empty() && bench.relay.servers.is_empty());
    assert!(bench.relay.of_address.is_empty());
}

#[test]
fn a_flood_of_strangers_is_answered_at_a_rate() {
    let limits = RelayLimits {
        challenges_per_second: 10.0,
        ..RelayLimits::default()
    };
    let mut bench = Bench::new(limits);
    let ask = register(Role::Client, [3; 8], None, &name("lab1"), None, &token("a"));
    let answered: usize = (0..1000).map(|_| bench.send(CLIENT, &ask).len()).sum();
    assert_eq!(answered, 10);
}

#[test]
fn a_client_that_floods_passes_its_rate_and_delays_no_other() {
    let limits = RelayLimits {
        bytes_per_second: 10_000.0,
        burst_bytes: 20_000.0,
        ..RelayLimits::default()
    };
    let mut bench = Bench::both(limits);
    let passed = |bench: &mut Bench, from, connection| {
        let passes = |_: &usize| matches!(bench.data(from, connection, 991), Step::Forward(_));
        (0..1000).filter(passes).count()
    };
    assert_eq!(passed(&mut bench, CLIENT, CONNECTION), 20);
    assert_eq!(passed(&mut bench, SERVER, CONNECTION), 20);
    bench.pass(1.0);
    assert_eq!(passed(&mut bench, CLIENT, CONNECTION), 10);
    bench.join("203.0.113.8:1", Role::Client, [8; 8], "lab1", "a");
    assert_eq!(passed(&mut bench, "203.0.113.8:1", [8; 8]), 20);
}

#[test]
fn registrations_of_one_end_are_read_at_a_rate() {
    let mut bench = Bench::both(RelayLimits::default());
    let lab = name("lab1");
    let ask = register(Role::Client, CONNECTION, None, &lab, None, &token("a"));
    let cookie = cookie_in(&bench.send(CLIENT, &ask)[0].1);
    let again = register(
        Role::Client,
        CONNECTION,
        Some(cookie),
        &lab,
        None,
        &token("a"),
    );
    let answered = (0..100)
        .filter(|_| !bench.send(CLIENT, &again).is_empty())
        .count();
    assert_eq!(answered, 10);
}

#[test]
fn what_is_kept_is_bounded_and_given_back() {
    let limits = RelayLimits {
        clients: 6,
        clients_of_name: 5,
        clients_of_address: 3,
        ..RelayLimits::default()
    };
    let mut bench = Bench::new(limits);
    bench.join(SERVER, Role::Server, INSTANCE, "lab1", "a");
    let join = |bench: &mut Bench, number: u8, host: u8, lab, letter| {
        let from = format!("203.0.113.{host}:{number}");
        let answers = bench.join(&from, Role::Client, [number; 8], lab, letter);
        refusal_in(&answers).filter(|refusal| *refusal != Refusal::Absent)
    };
    for number in 1..=3 {
        assert_eq!(join(&mut bench, number, 1, "lab1", "a"), None);
    }
    assert_eq!(join(&mut bench, 4, 1, "lab1", "a"), Some(Refusal::Full));
    assert_eq!(join(&mut bench, 5, 2, "lab1", "a"), None);
    assert_eq!(join(&mut bench, 6, 3, "lab1", "a"), None);
    assert_eq!(join(&mut bench, 7, 4, "lab1", "a"), Some(Refusal::Full));
    assert_eq!(join(&mut bench, 8, 4, "lab2", "b"), None);
    assert_eq!(join(&mut bench, 9, 5, "lab2", "b"), Some(Refusal::Full));
    bench.pass(11.0);
    assert!(bench.relay.of_address.is_empty() && bench.relay.clients.is_empty());
    assert_eq!(join(&mut bench, 4, 1, "lab1", "a"), None);
}

#[test]
fn an_end_that_moved_is_followed_once_it_has_proved_its_new_address() {
    let mut bench = Bench::both(RelayLimits::default());
    let moved = "203.0.113.99:7";
    assert_eq!(bench.data(moved, CONNECTION, 1200), Step::Read);
    assert_eq!(
        bench.data(SERVER, CONNECTION, 1200),
        Step::Forward(at(CLIENT))
    );
    bench.join(moved, Role::Client, CONNECTION, "lab1", "a");
    assert_eq!(
        bench.data(SERVER, CONNECTION, 1200),
        Step::Forward(at(moved))
    );
    let server = "198.51.100.2:5";
    bench.join(server, Role::Server, INSTANCE, "lab1", "a");
    assert_eq!(
        bench.data(moved, CONNECTION, 1200),
        Step::Forward(at(server))
    );
}

#[test]
fn a_relay_that_was_restarted_asks_both_to_register_again_and_the_connection_goes_on() {
    let mut bench = Bench::both(RelayLimits::default());
    let start = bench.start;
    bench.relay = Bench::new(RelayLimits::default()).relay;
    bench.relay.started = start;
    assert_eq!(bench.data(CLIENT, CONNECTION, 1200), Step::Read);
    assert!(matches!(
        Message::parse(&bench.relay.take_answers()[0].1),
        Some(Message::Challenge {
            end: CONNECTION,
            ..
        })
    ));
    bench.join(CLIENT, Role::Client, CONNECTION, "lab1", "a");
    bench.join(SERVER, Role::Server, INSTANCE, "lab1", "a");
    assert_eq!(
        bench.data(CLIENT, CONNECTION, 1200),
        Step::Forward(at(SERVER))
    );
}

#[test]
fn who_does_not_renew_is_forgotten_and_another_server_may_have_the_name() {
    let mut bench = Bench::both(RelayLimits::default());
    bench.pass(9.9);
    assert!(matches!(
        bench.data(CLIENT, CONNECTION, 1200),
        Step::Forward(_)
    ));
    bench.pass(0.2);
    assert_eq!(bench.data(CLIENT, CONNECTION, 1200), Step::Read);
    let answers = bench.join("192.0.2.9:1", Role::Server, [9; 8], "lab1", "a");
    assert_eq!(refusal_in(&answers), None);
    let ended = RelayEvent::Ended(name("lab1"), Role::Server);
    assert!(bench.relay.take_events().contains(&ended));
}

proptest! {
    #[test]
    fn no_datagrams_make_it_panic_grow_or_answer_more_than_came(
        datagrams in proptest::collection::vec(
            (0..4_u8, 0..9_u8, proptest::collection::vec(any::<u8>(), 0..120)), 0..60
        )
    ) {
        let mut bench = Bench::both(RelayLimits::default());
        for (host, kind, mut datagram) in datagrams {
            if let Some(first) = datagram.first_mut() {
                *first = kind;
            }
            let from = SocketAddr::from(([192, 0, 2, host], 9));
            prop_assert!(!matches!(bench.relay.handle(bench.now, from, &datagram), Step::Forward(_)));
            let answered: usize = bench.relay.take_answers().iter().map(|(_, answer)| answer.len()).sum();
            prop_assert!(answered <= datagram.len());
        }
        prop_assert_eq!((bench.relay.clients.len(), bench.relay.servers.len()), (1, 1));
    }
}
