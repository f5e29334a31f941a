//! A client's address changes under it, as when a NAT forgets or a robot roams: requests go on on the same connection.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use flash_transport::link::wire::ANSWER_OK;
use flash_transport::quic::client::{Client, ClientConfig};
use flash_transport::quic::server::Server;
use flash_transport::trust::ServerTrust;
use support::{echo, infer, next, relay::Relay, server_config, LONG};

fn client(server: &Server, relay: &Relay) -> Client {
    let trust = ServerTrust::Pinned(server.fingerprint());
    Client::new(ClientConfig::new(
        "127.0.0.1",
        relay.address().port(),
        trust,
    ))
    .unwrap()
}

#[test]
fn requests_go_on_from_another_address_without_a_new_connection() {
    let server = Server::bind(server_config()).unwrap();
    let relay = Relay::to(server.address());
    let client = client(&server, &relay);
    for number in 0..6u8 {
        if number % 2 == 1 {
            relay.change_address();
        }
        // More than a packet each way, so that both directions move.
        let body = vec![number; 100_000];
        let pending = client.request(infer(&body), Some(LONG));
        echo(&next(&server));
        assert_eq!(pending.wait_long().unwrap().bytes[1..], body);
    }
    assert_eq!(server.counters().connections_accepted.value(), 1);
}

#[test]
fn an_answer_finds_a_client_whose_address_changed_while_it_waited() {
    let server = Server::bind(server_config()).unwrap();
    let relay = Relay::to(server.address());
    let client = client(&server, &relay);
    let pending = client.request(infer(b"x"), Some(LONG));
    let request = next(&server);
    relay.change_address();
    request.reply.answer(vec![ANSWER_OK, 7]).unwrap();
    assert_eq!(pending.wait_long().unwrap().bytes, [ANSWER_OK, 7]);
    assert_eq!(server.counters().connections_accepted.value(), 1);
}
