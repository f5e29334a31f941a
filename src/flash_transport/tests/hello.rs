//! Whom a server lets in: one hello a connection, one key a hello, and what its operator is told.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use flash_transport::link::events::{ClientEvent, ClientEventKind};
use flash_transport::link::hello::Hello;
use flash_transport::link::keys::ApiKey;
use flash_transport::link::wire::{Failure, ANSWER_OK};
use flash_transport::quic::client::{Client, ClientConfig};
use flash_transport::quic::server::Server;
use support::{
    eventually,
    raw::{Raw, RawSettings},
    server_config, ANY_SERVER, LONG,
};

fn server_with_key() -> Server {
    let mut config = server_config();
    config.api_keys = vec![ApiKey::new("right").unwrap()];
    Server::bind(config).unwrap()
}

fn hello(key: &str) -> Vec<u8> {
    let hello = Hello {
        api_key: Some(ApiKey::new(key).unwrap()),
        ..Hello::default()
    };
    hello.encode().unwrap()
}

fn code(answer: &[u8]) -> String {
    Failure::decode(&answer[1..]).unwrap().code
}

/// All events of a server until one of `kind`.
fn events_until(server: &Server, kind: ClientEventKind) -> Vec<ClientEvent> {
    let mut all = Vec::new();
    while !all.iter().any(|event: &ClientEvent| event.kind == kind) {
        all.extend(server.events().next(LONG).unwrap());
    }
    all
}

#[test]
fn a_right_key_behind_wrong_ones_of_the_same_connection_is_not_let_in() {
    let server = server_with_key();
    let guesser = Raw::connect(server.address(), RawSettings::default());
    let keys = (0..63).map(|number| format!("wrong {number}"));
    // The connection may end before a hello or an answer has left: none may be a welcome.
    let asked: Vec<_> = keys
        .chain(["right".to_owned()])
        .filter_map(|key| guesser.ask_if_open(&hello(&key)))
        .collect();
    let answers = asked.into_iter().filter_map(|asked| asked.read());
    let answers: Vec<Vec<u8>> = answers.collect();
    assert!(
        answers.iter().all(|answer| answer[0] != ANSWER_OK),
        "{answers:?}"
    );
    assert!(answers
        .iter()
        .any(|answer| code(answer) == "unauthenticated"));
    assert_eq!(server.counters().hellos_refused.value(), 1);
    assert_eq!(server.counters().clients_unauthenticated.value(), 1);
    eventually(|| server.connections() == 0);
}

#[test]
fn a_second_hello_is_refused_and_the_first_one_goes_on_to_count() {
    let server = server_with_key();
    let client = Raw::connect(server.address(), RawSettings::default());
    assert_eq!(client.ask(&hello("right")).read().unwrap()[0], ANSWER_OK);
    for key in ["right", "wrong"] {
        let refused = client.ask(&hello(key)).read().unwrap();
        assert_eq!(code(&refused), "bad_request", "{key}");
    }
    assert_eq!(server.counters().hellos_refused.value(), 0);
    let held = client.ask(&[0x02, 0x80]);
    support::echo(&support::next(&server));
    assert_eq!(held.read().unwrap(), [ANSWER_OK, 0x80]);
}

#[test]
fn an_operator_is_told_who_came_who_left_and_who_was_refused() {
    let server = server_with_key();
    for _ in 0..2 {
        let refused = Raw::connect(server.address(), RawSettings::default());
        refused.ask(&hello("wrong")).read();
        eventually(|| server.connections() == 0);
    }
    let mut config = ClientConfig::new("127.0.0.1", server.address().port(), ANY_SERVER);
    config.hello.api_key = Some(ApiKey::new("right").unwrap());
    config.hello.session = Some("arm-7".to_owned());
    let client = Client::new(config).unwrap();
    client.meet(LONG).wait_long().unwrap();
    drop(client);
    let events = events_until(&server, ClientEventKind::Disconnected);
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.kind.name(), event.detail.as_str(), event.count))
        .collect();
    assert_eq!(
        told,
        [
            ("refused", "this api key is not known here", 2),
            ("connected", "arm-7", 1),
            ("disconnected", "arm-7", 1),
        ]
    );
    assert_eq!(&*events[0].client, "127.0.0.1");
    assert!(
        events[1].client.starts_with("127.0.0.1:"),
        "{:?}",
        events[1]
    );
}

#[test]
fn a_session_that_is_no_name_is_refused() {
    let server = Server::bind(server_config()).unwrap();
    for session in ["\0action slot", "arm\n", &"x".repeat(129)] {
        let client = Raw::connect(server.address(), RawSettings::default());
        let map = flash_transport::codec::Value::Map(vec![("session".into(), session.into())]);
        let refused = client
            .ask(&[&[0x01], &*map.encode().unwrap()].concat())
            .read();
        assert_eq!(code(&refused.unwrap()), "bad_request", "{session:?}");
    }
}
