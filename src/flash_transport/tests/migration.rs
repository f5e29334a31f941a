//! A client's address changes under it, as when a NAT forgets or a robot roams: requests go on on the same connection.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod relay;

use std::time::Duration;

use flash_transport::quic::client::{Client, ClientConfig, Message};
use flash_transport::quic::server::{Next, Server, ServerConfig};
use flash_transport::quic::wire::{Kind, ANSWER_OK};
use flash_transport::trust::{Identity, ServerTrust};
use relay::Relay;

/// Long enough for any machine; never waited for to the end when all is well.
const LONG: Duration = Duration::from_secs(30);

fn serve() -> Server {
    let identity = Identity::ephemeral().unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    Server::bind(ServerConfig::new(address, identity, vec![0x80])).unwrap()
}

fn client(server: &Server, relay: &Relay) -> Client {
    let trust = ServerTrust::Pinned(server.fingerprint());
    Client::new(ClientConfig::new(
        "127.0.0.1",
        relay.address().port(),
        trust,
    ))
    .unwrap()
}

fn infer(body: &[u8]) -> Message {
    Message::new([&[Kind::Infer.byte()], body].concat())
}

#[test]
fn requests_go_on_from_another_address_without_a_new_connection() {
    let server = serve();
    let relay = Relay::to(server.address());
    let client = client(&server, &relay);
    for number in 0..6u8 {
        if number % 2 == 1 {
            relay.change_address();
        }
        // More than a packet each way, so that both directions move.
        let body = vec![number; 100_000];
        let pending = client.request(infer(&body), Some(LONG));
        match server.next(LONG) {
            Next::Request(request) => {
                let answer = [&[ANSWER_OK], request.body.as_slice()].concat();
                request.reply.answer(answer).unwrap();
            }
            other => panic!("no request came: {other:?}"),
        }
        assert_eq!(pending.wait_long().unwrap().bytes[1..], body);
    }
    assert_eq!(server.counters().connections_accepted.value(), 1);
}

#[test]
fn an_answer_finds_a_client_whose_address_changed_while_it_waited() {
    let server = serve();
    let relay = Relay::to(server.address());
    let client = client(&server, &relay);
    let pending = client.request(infer(b"x"), Some(LONG));
    let Next::Request(request) = server.next(LONG) else {
        panic!("no request came");
    };
    relay.change_address();
    request.reply.answer(vec![ANSWER_OK, 7]).unwrap();
    assert_eq!(pending.wait_long().unwrap().bytes, [ANSWER_OK, 7]);
    assert_eq!(server.counters().connections_accepted.value(), 1);
}
