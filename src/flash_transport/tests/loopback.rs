//! Client and server over real sockets on the loopback.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use flash_transport::link::hello::Hello;
use flash_transport::link::keys::ApiKey;
use flash_transport::link::limits::ServerLimits;
use flash_transport::link::queue::Next;
use flash_transport::link::wire::{ErrorCode, Failure, Kind, ANSWER_OK};
use flash_transport::quic::client::{Client, ClientConfig, ClientError, Mail};
use flash_transport::quic::server::{Server, ServerConfig};
use flash_transport::trust::{Fingerprint, Refusal, ServerTrust};
use support::{echo, eventually, infer, next, server_config, ANY_SERVER, LONG};

fn serve(config: ServerConfig) -> Server {
    Server::bind(config).unwrap()
}

fn client_config(server: &Server) -> ClientConfig {
    let mut config = ClientConfig::new("127.0.0.1", server.address().port(), ANY_SERVER);
    config.hello = Hello {
        session: Some("arm".into()),
        ..Hello::default()
    };
    config
}

fn connect(config: ClientConfig) -> Client {
    let client = Client::new(config).unwrap();
    client.meet(LONG).wait_long().unwrap();
    client
}

#[test]
fn a_request_comes_back_as_it_was_sent() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    assert_eq!(client.metadata().unwrap(), vec![0x80]);

    let body: Vec<u8> = (0..3_000_000).map(|index| (index % 251) as u8).collect();
    let pending = client.request(infer(&body), Some(LONG));
    let request = next(&server);
    assert_eq!(request.kind, Kind::Infer);
    assert_eq!(&*request.session, "arm");
    assert!(request.peer.starts_with("127.0.0.1:"), "{}", request.peer);
    assert_eq!(request.body, body);
    echo(&request);
    let answer = pending.wait_long().unwrap();
    assert_eq!(answer.bytes[1..], body);
    assert_eq!(
        (answer.bytes_up, answer.bytes.len()),
        (body.len() + 1, body.len() + 1)
    );
    assert_eq!(answer.connect_attempts, 0);
}

/// What Linux knows of the route, other systems do not tell.
#[cfg(target_os = "linux")]
#[test]
fn requests_within_a_host_travel_in_large_datagrams() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    let body = vec![7; 451_800];
    let ask = || {
        let pending = client.request(infer(&body), Some(LONG));
        echo(&next(&server));
        pending.wait_long().unwrap();
    };
    let received = || {
        let counters = server.counters().snapshot();
        let found = counters
            .iter()
            .find(|(name, _)| *name == "datagrams_received");
        found.unwrap().1
    };
    // The search for the path's size takes about ten round trips.
    eventually(|| {
        let before = received();
        ask();
        // 28 with the request, some with acknowledgements; 320 of ordinary size.
        received() - before < 100
    });
}

#[test]
fn answers_find_their_requests_whatever_their_order() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    let pending = [1u8, 2, 3].map(|body| client.request(infer(&[body]), Some(LONG)));
    let mut requests = [(); 3].map(|()| next(&server));
    requests.reverse();
    requests.iter().for_each(echo);
    for (body, pending) in [1u8, 2, 3].iter().zip(pending) {
        assert_eq!(pending.wait_long().unwrap().bytes, [ANSWER_OK, *body]);
    }
}

#[test]
fn a_dropped_request_is_cancelled_at_the_server() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    let pending = client.request(infer(b"x"), None);
    let request = next(&server);
    assert!(!request.reply.is_cancelled());
    drop(pending);
    eventually(|| request.reply.is_cancelled());
    echo(&request);
    assert_eq!(server.counters().requests_cancelled.value(), 1);
}

#[test]
fn a_request_that_nobody_took_is_withdrawn_when_its_client_loses_interest() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    let stale = client.request(infer(b"stale"), None);
    eventually(|| server.counters().requests_accepted.value() == 1);
    drop(stale);
    eventually(|| server.counters().requests_cancelled.value() == 1);
    let fresh = client.request(infer(b"fresh"), Some(LONG));
    let request = next(&server);
    assert_eq!(request.body, b"fresh");
    echo(&request);
    fresh.wait_long().unwrap();
}

#[test]
fn a_client_that_leaves_cancels_its_requests() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    let _pending = client.request(infer(b"x"), None);
    let request = next(&server);
    drop(client);
    eventually(|| request.reply.is_cancelled());
}

#[test]
fn a_request_times_out_by_its_own_clock() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    let within = Duration::from_millis(30);
    let error = client
        .request(infer(b"x"), Some(within))
        .wait_long()
        .unwrap_err();
    let server = client.server().to_owned();
    let silent = None;
    assert_eq!(
        error,
        ClientError::Timeout {
            server,
            within,
            silent
        }
    );
}

#[test]
fn a_dropped_request_answers_that_the_server_dropped_it() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    let pending = client.request(infer(b"x"), Some(LONG));
    drop(next(&server));
    let failure = Failure::new(ErrorCode::Internal, "the server dropped this request");
    assert_eq!(pending.wait_long(), Err(ClientError::Server(failure)));
}

#[test]
fn a_closing_server_answers_what_it_has_not_begun_and_says_goodbye() {
    let server = serve(server_config());
    let mut config = client_config(&server);
    config.connect_timeout = Duration::from_millis(500);
    let client = connect(config);
    let taken = client.request(infer(b"x"), Some(LONG));
    let request = next(&server);
    let waiting = client.request(infer(b"y"), Some(LONG));
    eventually(|| server.counters().requests_accepted.value() == 2);
    server.close();
    server.close();
    // Nobody knows what came of the one that was taken.
    let lost = taken.wait_long().unwrap_err();
    assert!(matches!(lost, ClientError::Lost { .. }), "{lost}");
    // The other one may be begun by the next server, but there is none.
    let nobody = waiting.wait_long().unwrap_err();
    assert!(
        matches!(nobody, ClientError::Unreachable { .. }),
        "{nobody}"
    );
    assert!(request.reply.is_cancelled());
    assert!(matches!(server.next(LONG), Next::Closed));
    assert!(!server.is_broken());
}

#[test]
fn a_closed_client_fails_what_is_under_way_and_what_comes_later() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    let pending = client.request(infer(b"x"), None);
    let request = next(&server);
    client.close();
    let closed = ClientError::Closed {
        server: client.server().to_owned(),
    };
    assert_eq!(pending.wait_long(), Err(closed.clone()));
    assert_eq!(client.request(infer(b"y"), None).wait_long(), Err(closed));
    echo(&request);
}

#[test]
fn the_pinned_server_is_trusted_and_another_is_not() {
    let server = serve(server_config());
    let mut config = client_config(&server);
    config.trust = ServerTrust::Pinned(server.fingerprint());
    connect(config.clone());

    let expected = Fingerprint::of_certificate(b"another");
    config.trust = ServerTrust::Pinned(expected);
    let client = Client::new(config).unwrap();
    let error = client.connect(LONG).wait_long().unwrap_err();
    assert_eq!(
        error,
        ClientError::UntrustedServer {
            server: client.server().to_owned(),
            refusal: Refusal::NotPinned {
                expected,
                got: server.fingerprint(),
            },
        }
    );
}

#[test]
fn only_a_known_api_key_comes_in() {
    let mut config = server_config();
    config.api_keys = vec![ApiKey::new("right").unwrap()];
    let server = serve(config);
    let with_key = |key: Option<&str>| {
        let mut config = client_config(&server);
        config.hello.api_key = key.map(|key| ApiKey::new(key).unwrap());
        let client = Client::new(config).unwrap();
        let connected = client.meet(LONG).wait_long();
        connected.map(|_| client)
    };
    with_key(Some("right")).unwrap();
    for key in [None, Some("wrong"), Some("")] {
        let error = with_key(key).unwrap_err();
        assert!(
            matches!(error, ClientError::AuthenticationFailed { .. }),
            "{error}"
        );
    }
    assert_eq!(server.counters().clients_unauthenticated.value(), 3);
}

#[test]
fn an_oversize_request_is_refused_before_it_is_all_there() {
    let mut config = server_config();
    config.limits = ServerLimits::with_message_bytes(100_000);
    let server = serve(config);
    let client = connect(client_config(&server));
    let error = client
        .request(infer(&vec![7; 20_000_000]), Some(LONG))
        .wait_long()
        .unwrap_err();
    let failure = Failure::new(ErrorCode::BadRequest, "request is larger than 100000 bytes");
    assert_eq!(error, ClientError::Server(failure));
    // The connection goes on.
    let pending = client.request(infer(&[7; 100_000]), Some(LONG));
    echo(&next(&server));
    pending.wait_long().unwrap();
}

#[test]
fn one_client_cannot_hold_more_bytes_than_its_part() {
    let mut config = server_config();
    config.limits = ServerLimits::with_message_bytes(100_000);
    let server = serve(config);
    let greedy = connect(client_config(&server));
    let other = connect(client_config(&server));
    let body = vec![7; 100_000];
    let held = [(); 2].map(|()| greedy.request(infer(&body), Some(LONG)));
    let requests = [(); 2].map(|()| next(&server));
    let brief = Some(Duration::from_millis(100));
    let error = greedy.request(infer(&body), brief).wait_long();
    assert!(
        matches!(&error, Err(ClientError::Server(failure)) if failure.code == "not_ready"),
        "{error:?}"
    );
    let pending = other.request(infer(&body), Some(LONG));
    echo(&next(&server));
    pending.wait_long().unwrap();
    // What is answered is given back.
    requests.iter().for_each(echo);
    drop(requests);
    for pending in held {
        pending.wait_long().unwrap();
    }
    let pending = greedy.request(infer(&body), Some(LONG));
    echo(&next(&server));
    pending.wait_long().unwrap();
}

#[test]
fn submitted_requests_come_into_the_mailbox_under_their_tickets() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    let mailbox = client.mailbox();
    let _first = client.submit(infer(b"1"), None, "a".into(), 1).unwrap();
    let _second = client.submit(infer(b"2"), None, "b".into(), 2).unwrap();
    let mut requests = [(); 2].map(|()| next(&server));
    requests.sort_by_key(|request| std::cmp::Reverse(request.body.to_vec()));
    for request in &requests {
        echo(request);
        let Mail::Outcome(ticket, Ok(answer)) = mailbox.next(LONG) else {
            panic!("no answer");
        };
        assert_eq!(answer.bytes[1..], *request.body);
        assert_eq!(ticket.to_string().as_bytes(), &*request.body);
    }
}

#[test]
fn a_submitted_request_is_cancelled_by_losing_interest() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    let interest = client.submit(infer(b"x"), None, "arm".into(), 1).unwrap();
    let request = next(&server);
    drop(interest);
    eventually(|| request.reply.is_cancelled());
}

#[test]
fn a_closed_client_empties_its_mailbox_and_takes_no_more() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    let mailbox = client.mailbox();
    let _interest = client.submit(infer(b"x"), None, "arm".into(), 1).unwrap();
    let _request = next(&server);
    client.close();
    let closed = ClientError::Closed {
        server: client.server().to_owned(),
    };
    let Mail::Outcome(1, Err(error)) = mailbox.next(LONG) else {
        panic!("no outcome");
    };
    assert_eq!(error, closed);
    assert!(matches!(mailbox.next(LONG), Mail::Over));
    let refused = client.submit(infer(b"y"), None, "arm".into(), 2);
    assert_eq!(refused.unwrap_err(), closed);
}

#[test]
fn a_request_that_the_server_is_not_ready_for_is_sent_again() {
    let server = serve(server_config());
    let client = connect(client_config(&server));
    let pending = client.request(infer(b"x"), Some(LONG));
    let request = next(&server);
    request
        .reply
        .fail(ErrorCode::NotReady, "loading weights")
        .unwrap();
    echo(&next(&server));
    assert_eq!(pending.wait_long().unwrap().bytes, [ANSWER_OK, b'x']);
}

#[test]
fn a_server_on_every_ipv6_address_serves_ipv4_clients_too() {
    let mut config = server_config();
    config.address = "[::]:0".parse().unwrap();
    let server = serve(config);
    for host in ["127.0.0.1", "::1"] {
        let client = connect(ClientConfig::new(host, server.address().port(), ANY_SERVER));
        assert!(client.metadata().is_some(), "{host}");
    }
}
