//! A request that times out says whether its link is dead, long before the connection is given up.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use flash_transport::quic::client::{Client, ClientConfig, ClientError};
use flash_transport::quic::server::Server;
use support::{echo, infer, next, relay::Relay, server_config, ANY_SERVER, LONG};

/// Many round trips of the loopback, and far less than the idle timeout.
const SHORT: Duration = Duration::from_millis(900);

fn client_of(relay: &Relay, server: &Server) -> Client {
    let config = ClientConfig::new("127.0.0.1", relay.address().port(), ANY_SERVER);
    let client = Client::new(config).unwrap();
    let pending = client.request(infer(&[0x80]), Some(LONG));
    echo(&next(server));
    pending.wait_long().unwrap();
    client
}

#[test]
fn a_request_on_a_dead_link_says_that_nothing_comes_and_for_how_long() {
    let server = Server::bind(server_config()).unwrap();
    let relay = Relay::to(server.address());
    let client = client_of(&relay, &server);
    relay.cut(true);
    let error = client.request(infer(&[0x80]), Some(SHORT)).wait_long();
    match error.unwrap_err() {
        ClientError::Timeout {
            silent: Some(silent),
            ..
        } => assert!(silent >= SHORT / 2, "{silent:?}"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_request_of_a_server_that_computes_says_nothing_of_the_link() {
    let server = Server::bind(server_config()).unwrap();
    let relay = Relay::to(server.address());
    let client = client_of(&relay, &server);
    let pending = client.request(infer(&[0x80]), Some(SHORT));
    let held = next(&server);
    match pending.wait_long().unwrap_err() {
        ClientError::Timeout { silent: None, .. } => {}
        other => panic!("{other}"),
    }
    drop(held);
}
