//! What leaves behind a hello, or overtakes it: it is held, it gets the hello's verdict, and the policy sees nothing of it before.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use flash_transport::link::keys::ApiKey;
use flash_transport::link::limits::ServerLimits;
use flash_transport::link::queue::Next;
use flash_transport::link::request::Request;
use flash_transport::link::wire::{Failure, Kind, ANSWER_OK};
use flash_transport::local::server::{LocalServer, LocalServerConfig};
use flash_transport::quic::client::{Client, ClientConfig, ClientError, Pending};
use flash_transport::quic::server::Server;
use support::{
    eventually, fresh_path, infer, next,
    raw::{Raw, RawSettings},
    server_config, ANY_SERVER, LONG,
};

/// In which something does not happen.
const SHORT: Duration = Duration::from_millis(100);
const INFER: &[u8] = &[0x02, 0x80];

fn client(server: &Server, api_key: Option<&str>) -> Client {
    client_of("127.0.0.1", server.address().port(), api_key)
}

fn client_of(host: &str, port: u16, api_key: Option<&str>) -> Client {
    let mut config = ClientConfig::new(host, port, ANY_SERVER);
    config.hello.api_key = api_key.map(|key| ApiKey::new(key).unwrap());
    Client::new(config).unwrap()
}

fn answer(request: &Request) {
    request.reply.answer(vec![ANSWER_OK, 0x80]).unwrap();
}

fn code(answer: &[u8]) -> String {
    Failure::decode(&answer[1..]).unwrap().code
}

#[test]
fn a_request_that_overtakes_its_hello_is_answered_behind_it() {
    let server = Server::bind(server_config()).unwrap();
    let hasty = Raw::connect(server.address(), RawSettings::default());
    let first = hasty.ask(INFER);
    let second = hasty.ask(&[0x03, 0x80]);
    assert!(matches!(server.next(SHORT), Next::Nothing));
    assert_eq!(server.counters().requests_refused.value(), 0);
    hasty.say_hello();
    for _ in 0..2 {
        answer(&next(&server));
    }
    assert_eq!(first.read().unwrap(), [ANSWER_OK, 0x80]);
    assert_eq!(second.read().unwrap(), [ANSWER_OK, 0x80]);
}

#[test]
fn a_malformed_hello_is_refused_and_the_request_waits_for_a_better_one() {
    let server = Server::bind(server_config()).unwrap();
    let hasty = Raw::connect(server.address(), RawSettings::default());
    let held = hasty.ask(INFER);
    let refused = hasty.ask(&[0x01, 0x90]).read().unwrap();
    assert_eq!(code(&refused), "bad_request");
    assert!(matches!(server.next(SHORT), Next::Nothing));
    hasty.say_hello();
    answer(&next(&server));
    assert_eq!(held.read().unwrap(), [ANSWER_OK, 0x80]);
    assert_eq!(server.counters().hellos_refused.value(), 1);
}

#[test]
fn requests_without_a_hello_end_with_the_connection_and_are_not_read() {
    let mut config = server_config();
    config.limits.hello_time = Duration::from_millis(500);
    let server = Server::bind(config).unwrap();
    let rude = Raw::connect(server.address(), RawSettings::default());
    let held = rude.ask(INFER);
    // Nobody reads it: QUIC takes what a stranger may have on the way, in all, and holds the rest back.
    let taken = rude.write_until_held(Kind::Infer.byte(), SHORT);
    assert!(taken <= 1 << 20, "{taken} bytes");
    assert_eq!(held.read(), None);
    eventually(|| server.connections() == 0);
    let counters = server.counters();
    assert_eq!(counters.clients_unauthenticated.value(), 1);
    assert_eq!(counters.requests_accepted.value(), 0);
    assert!(matches!(server.next(Duration::ZERO), Next::Nothing));
}

#[test]
fn held_requests_that_are_cancelled_leave_nothing_behind() {
    let server = Server::bind(server_config()).unwrap();
    let rapid = Raw::connect(server.address(), RawSettings::default());
    // Many times the streams that a connection may have, and the bytes that a stranger may have on the way.
    rapid.open_and_reset(3000, &[0x02; 1000]);
    for _ in 0..200 {
        rapid.ask(&[0x02; 1000]).cancel();
    }
    rapid.say_hello();
    let asked = rapid.ask(INFER);
    let request = next(&server);
    assert_eq!(request.body, [0x80]);
    answer(&request);
    assert_eq!(asked.read().unwrap(), [ANSWER_OK, 0x80]);
    assert_eq!(server.counters().requests_accepted.value(), 1);
}

#[test]
fn a_server_that_stops_answers_what_it_holds() {
    let server = Server::bind(server_config()).unwrap();
    let hasty = Raw::connect(server.address(), RawSettings::default());
    let held = hasty.ask(INFER);
    eventually(|| server.counters().connections_accepted.value() == 1);
    server.stop_accepting();
    assert_eq!(code(&held.read().unwrap()), "not_ready");
    assert!(server.wait_settled(Duration::ZERO), "nothing was promised");
}

#[test]
fn a_wrong_key_is_what_the_requests_behind_it_are_told() {
    let mut config = server_config();
    config.api_keys = vec![ApiKey::new("right").unwrap()];
    config.limits.hello_delay = Duration::ZERO;
    let server = Server::bind(config).unwrap();
    let path = fresh_path();
    let mut config = LocalServerConfig::new(path.clone(), vec![0x80]);
    config.api_keys = vec![ApiKey::new("right").unwrap()];
    config.limits.hello_delay = Duration::ZERO;
    let local = LocalServer::bind(config).unwrap();
    let unix = format!("unix:{}", path.display());
    // The end of the connection and the answer to the hello race each other.
    for round in 0..20 {
        for bytes in [1, 3_000_000] {
            for client in [
                client(&server, Some("wrong")),
                client_of(&unix, 0, Some("wrong")),
            ] {
                if round % 2 == 0 {
                    // Whoever asks first is told, and that may be this.
                    let _ = client.connect(LONG).wait_long();
                }
                let requests =
                    [bytes, 1].map(|bytes| client.request(infer(&vec![0x80; bytes]), Some(LONG)));
                for request in requests {
                    let error = request.wait_long().unwrap_err();
                    assert!(
                        matches!(error, ClientError::AuthenticationFailed { .. }),
                        "{error}"
                    );
                }
                let error = client.meet(LONG).wait_long().unwrap_err();
                assert!(
                    matches!(error, ClientError::AuthenticationFailed { .. }),
                    "{error}"
                );
            }
        }
    }
    assert_eq!(server.counters().requests_accepted.value(), 0);
    assert_eq!(local.counters().requests_accepted.value(), 0);
}

#[test]
fn a_server_that_gets_ready_is_sent_the_first_request_again_and_begins_it_once() {
    let mut config = server_config();
    config.metadata = None;
    let server = Server::bind(config).unwrap();
    let client = client(&server, None);
    let pending = client.request(infer(&[0x80; 1000]), Some(LONG));
    eventually(|| server.counters().requests_refused.value() >= 3);
    assert!(client.metadata().is_none());
    server.set_metadata(&[0x81, 0xa1, b'm', 0x01]);
    answer(&next(&server));
    pending.wait_long().unwrap();
    assert_eq!(server.counters().requests_accepted.value(), 1);
    client.meet(LONG).wait_long().unwrap();
    assert_eq!(client.metadata().unwrap(), vec![0x81, 0xa1, b'm', 0x01]);
}

#[test]
fn a_local_server_that_gets_ready_is_sent_the_first_request_again_and_begins_it_once() {
    let path = fresh_path();
    let server = LocalServer::bind(LocalServerConfig::new(path.clone(), None)).unwrap();
    let client = client_of(&format!("unix:{}", path.display()), 0, None);
    let pending = client.request(infer(&[0x80; 1000]), Some(LONG));
    eventually(|| server.counters().requests_refused.value() >= 3);
    server.set_metadata(&[0x80]);
    answer(&next(&server));
    pending.wait_long().unwrap();
    assert_eq!(server.counters().requests_accepted.value(), 1);
}

#[test]
fn a_request_whose_time_ends_before_the_server_is_ready_says_so() {
    let mut config = server_config();
    config.metadata = None;
    let server = Server::bind(config).unwrap();
    let client = client(&server, None);
    let within = Duration::from_millis(300);
    let asked: [&dyn Fn() -> Pending; 2] =
        [&|| client.request(infer(&[0x80]), Some(within)), &|| {
            client.meet(within)
        }];
    for ask in asked {
        let error = ask().wait_long().unwrap_err();
        assert!(
            matches!(&error, ClientError::Server(failure) if failure.code == "not_ready"),
            "{error}"
        );
    }
}

#[test]
fn a_server_that_is_not_ready_is_there() {
    let mut config = server_config();
    config.metadata = None;
    let server = Server::bind(config).unwrap();
    let path = fresh_path();
    let _local = LocalServer::bind(LocalServerConfig::new(path.clone(), None)).unwrap();
    for _ in 0..20 {
        for client in [
            client(&server, None),
            client_of(&format!("unix:{}", path.display()), 0, None),
        ] {
            client.connect(LONG).wait_long().unwrap();
        }
    }
}

#[test]
fn a_first_request_larger_than_a_stranger_may_send_comes_whole() {
    let server = Server::bind(server_config()).unwrap();
    let client = client(&server, None);
    let pending = client.request(infer(&vec![0x80; 8_000_000]), Some(LONG));
    let request = next(&server);
    assert_eq!(request.body.len(), 8_000_000);
    answer(&request);
    pending.wait_long().unwrap();
    assert_eq!(server.counters().connections_accepted.value(), 1);
}

#[test]
fn a_request_behind_a_hello_that_a_full_local_server_never_read_waits_for_room() {
    let mut config = LocalServerConfig::new(fresh_path(), vec![0x80]);
    config.limits.connections = 1;
    let server = LocalServer::bind(config).unwrap();
    let host = format!("unix:{}", server.path().display());
    let first = client_of(&host, 0, None);
    first.meet(LONG).wait_long().unwrap();
    let second = client_of(&host, 0, None);
    let pending = second.request(infer(&vec![0x80; 3_000_000]), Some(LONG));
    eventually(|| server.counters().connections_refused.value() >= 3);
    drop(first);
    let request = next(&server);
    assert_eq!(request.body.len(), 3_000_000);
    answer(&request);
    pending.wait_long().unwrap();
    assert_eq!(server.counters().requests_accepted.value(), 1);
}

#[test]
fn a_limit_of_one_request_leaves_room_for_the_hello() {
    let mut config = server_config();
    config.limits = ServerLimits::default();
    config.limits.connection_requests = 1;
    let server = Server::bind(config).unwrap();
    let client = client(&server, None);
    let pending = client.request(infer(&[0x80]), Some(LONG));
    answer(&next(&server));
    pending.wait_long().unwrap();
}
