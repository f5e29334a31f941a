//! Repair between real endpoints, over a path that delays and loses datagrams.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use flash_transport::link::limits::ServerLimits;
use flash_transport::quic::client::{Client, ClientConfig};
use flash_transport::quic::server::Server;
use support::lossy::LossyPath;
use support::relay::Relay;
use support::{echo, infer, next, server_config, ANY_SERVER, LONG};

fn client(port: u16, repair: bool) -> Client {
    let mut config = ClientConfig::new("127.0.0.1", port, ANY_SERVER);
    config.link.repair = repair;
    Client::new(config).unwrap()
}

fn ask(client: &Client, server: &Server, body: &[u8]) {
    let pending = client.request(infer(body), Some(LONG));
    let request = next(server);
    assert!(*request.body == *body);
    echo(&request);
    let answer = pending.wait_long().unwrap();
    assert!(answer.bytes[1..] == *body);
}

fn body(number: usize) -> Vec<u8> {
    (0..200_000 + number)
        .map(|i| (i * 31 + number) as u8)
        .collect()
}

#[test]
fn lost_packets_of_requests_and_answers_are_rebuilt() {
    let server = Server::bind(server_config()).unwrap();
    let path = LossyPath::to(server.address());
    let client = client(path.address().port(), true);
    let counters = server.counters();
    let rebuilt = || {
        let requests = counters.requests_rebuilt.value();
        requests.min(client.repairs().answers_rebuilt.value())
    };
    for number in 0..200 {
        ask(&client, &server, &body(number));
        if rebuilt() > 2 {
            break;
        }
    }
    assert!(rebuilt() > 2);
    assert!(client.repairs().bytes_sent.value() > 0);
    assert!(counters.repair_bytes_sent.value() > 0);
    let refused = client.repairs().refused.value();
    assert_eq!((counters.repair_refused.value(), refused), (0, 0));
    assert_eq!(client.metadata().unwrap(), vec![0x80]);
}

#[test]
fn an_end_without_repair_gets_none_and_sends_none() {
    for (at_client, at_server) in [(false, true), (true, false)] {
        let mut config = server_config();
        config.link.repair = at_server;
        let server = Server::bind(config).unwrap();
        let path = LossyPath::to(server.address());
        let client = client(path.address().port(), at_client);
        for number in 0..8 {
            ask(&client, &server, &body(number));
        }
        assert_eq!(client.repairs().bytes_sent.value(), 0);
        assert_eq!(server.counters().repair_bytes_sent.value(), 0);
        assert_eq!(client.metadata().unwrap(), vec![0x80]);
    }
}

#[test]
fn a_path_without_loss_has_no_repair() {
    let server = Server::bind(server_config()).unwrap();
    let client = client(server.address().port(), true);
    for number in 0..4 {
        ask(&client, &server, &body(number));
    }
    assert_eq!(client.repairs().bytes_sent.value(), 0);
    assert_eq!(server.counters().repair_bytes_sent.value(), 0);
}

#[test]
fn a_request_of_the_largest_size_is_not_refused_for_its_repair() {
    let mut config = server_config();
    config.limits = ServerLimits::with_message_bytes(200_000);
    let server = Server::bind(config).unwrap();
    let path = LossyPath::to(server.address());
    let client = client(path.address().port(), true);
    for _ in 0..200 {
        ask(&client, &server, &body(0));
        if server.counters().requests_rebuilt.value() > 2 {
            break;
        }
    }
    assert!(server.counters().requests_rebuilt.value() > 2);
}

#[test]
fn a_client_may_change_its_address_while_its_requests_are_repaired() {
    let server = Server::bind(server_config()).unwrap();
    let relay = Relay::to(server.address());
    let path = LossyPath::to(relay.address());
    let client = client(path.address().port(), true);
    let rebuilt = &server.counters().requests_rebuilt;
    let mut rebuilt_elsewhere = 0;
    for number in 0..200 {
        let before = rebuilt.value();
        let body = body(number);
        let pending = client.request(infer(&body), Some(LONG));
        // Early, in the middle or late in a request's flight.
        std::thread::sleep(Duration::from_millis(number as u64 % 4 * 8));
        relay.change_address();
        let request = next(&server);
        assert!(*request.body == *body);
        echo(&request);
        assert!(pending.wait_long().unwrap().bytes[1..] == *body);
        rebuilt_elsewhere += rebuilt.value() - before;
        if rebuilt_elsewhere > 2 {
            break;
        }
    }
    assert!(rebuilt_elsewhere > 2);
    assert_eq!(server.counters().connections_accepted.value(), 1);
}
