//! Requests within a host whose sockets have no larger buffers than Linux grants unless told otherwise.
#![cfg(target_os = "linux")]
// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use flash_transport::link::queue::Next;
use flash_transport::link::wire::{Kind, ANSWER_OK};
use flash_transport::quic::client::{Client, ClientConfig, Message};
use flash_transport::quic::server::{Server, ServerConfig};
use flash_transport::quic::settings::LinkSettings;
use flash_transport::trust::{danger::AcceptAnyServer, Identity, ServerTrust};

/// Long enough for any machine; never waited for to the end when all is well.
const LONG: Duration = Duration::from_secs(60);
/// Linux's default of `net.core.rmem_max` and `net.core.wmem_max`.
const DEFAULT_LIMIT: usize = 212_992;
/// Three images of 224x224: more than such a buffer holds.
const REQUEST_BYTES: usize = 451_800;
const ANSWER_BYTES: usize = 7_000;
/// Each shows a first request and those behind it.
const CONNECTIONS: usize = 8;

fn small_buffers() -> LinkSettings {
    LinkSettings {
        socket_buffer_bytes: DEFAULT_LIMIT,
        ..LinkSettings::default()
    }
}

fn serve() -> Server {
    let address = "127.0.0.1:0".parse().unwrap();
    let mut config = ServerConfig::new(address, Identity::ephemeral().unwrap(), vec![0x80]);
    config.link = small_buffers();
    Server::bind(config).unwrap()
}

fn connect(server: &Server) -> Client {
    let trust = ServerTrust::DangerAnyServer(AcceptAnyServer);
    let mut config = ClientConfig::new("127.0.0.1", server.address().port(), trust);
    config.link = small_buffers();
    config.connect_timeout = LONG;
    Client::new(config).unwrap()
}

fn ask(server: &Server, client: &Client) {
    std::thread::scope(|scope| {
        scope.spawn(|| match server.next(LONG) {
            Next::Request(request) => request.reply.answer(vec![ANSWER_OK; ANSWER_BYTES]).unwrap(),
            other => panic!("no request came: {other:?}"),
        });
        let mut message = vec![0; REQUEST_BYTES];
        message[0] = Kind::Infer.byte();
        client
            .request(Message::new(message), Some(LONG))
            .wait_long()
            .unwrap();
    });
}

/// Datagrams that met a full buffer, at the server's socket and at those of its clients.
fn overflowed(server: &Server) -> u64 {
    const LOCAL: usize = 1;
    const REMOTE: usize = 2;
    let port = format!(":{:04X}", server.address().port());
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
    let drops: Vec<u64> = sockets
        .lines()
        .map(|socket| socket.split_whitespace().collect::<Vec<_>>())
        .filter(|socket| socket[LOCAL].ends_with(&port) || socket[REMOTE].ends_with(&port))
        .map(|socket| socket.last().unwrap().parse().unwrap())
        .collect();
    assert!(drops.len() >= 2, "both ends' sockets are in: {sockets}");
    drops.iter().sum()
}

/// A socket that nobody reads for milliseconds overflows whatever is sent, and on a busy machine nobody may: what a
/// connection overflows on a machine that reads is judged by those that met one.
#[test]
fn requests_overflow_no_socket_that_is_read() {
    let mut by_the_first = Vec::new();
    let mut by_the_others = Vec::new();
    for _ in 0..CONNECTIONS {
        let server = serve();
        let granted = server.socket_buffers().receive;
        assert!(
            granted <= 2 * DEFAULT_LIMIT,
            "a buffer of {granted} bytes shows nothing"
        );
        let client = connect(&server);
        ask(&server, &client);
        let first = overflowed(&server);
        for _ in 0..40 {
            ask(&server, &client);
        }
        by_the_first.push(first);
        by_the_others.push(overflowed(&server) - first);
    }
    let without = |drops: &[u64]| drops.iter().filter(|drops| **drops == 0).count();
    // The first flight is in small datagrams, which need more of a buffer than they hold.
    assert!(without(&by_the_first) >= 1, "{by_the_first:?}");
    assert!(
        without(&by_the_others) > CONNECTIONS / 2,
        "{by_the_others:?}"
    );
}
