//! A load balancer finds the server of a datagram by the server id in its connection id.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use flash_transport::quic::client::{Client, ClientConfig};
use flash_transport::quic::server::Server;
use flash_transport::trust::ServerTrust;
use support::{echo, infer, next, relay::Relay, server_config, LONG};

const LONG_HEADER: u8 = 0x80;

#[test]
fn every_datagram_of_an_established_connection_names_its_server() {
    let mut config = server_config();
    config.server_id = "0x1a2b3c4d5e6f7081".parse().ok();
    let server = Server::bind(config).unwrap();
    let relay = Relay::to(server.address());
    relay.record();
    let trust = ServerTrust::Pinned(server.fingerprint());
    let client = Client::new(ClientConfig::new(
        "127.0.0.1",
        relay.address().port(),
        trust,
    ))
    .unwrap();
    for number in 0..3u8 {
        let body = vec![number; 100_000];
        let pending = client.request(infer(&body), Some(LONG));
        echo(&next(&server));
        assert_eq!(pending.wait_long().unwrap().bytes[1..], body);
        relay.change_address();
    }
    assert_eq!(server.counters().connections_accepted.value(), 1);
    assert_eq!(server.counters().datagrams_garbage.value(), 0);

    let established: Vec<_> = relay
        .recorded()
        .into_iter()
        .filter(|datagram| datagram[0] & LONG_HEADER == 0)
        .collect();
    assert!(established.len() > 100, "{}", established.len());
    for datagram in established {
        assert_eq!(
            datagram[1..10],
            [0x10, 0x1a, 0x2b, 0x3c, 0x4d, 0x5e, 0x6f, 0x70, 0x81]
        );
    }
}
