//! A client that comes back says hello with its first flight, and a replayed flight gains nothing.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flash_transport::link::queue::Next;
use flash_transport::link::wire::{Kind, ALPN, ANSWER_OK};
use flash_transport::quic::client::{Client, ClientConfig, ClientError, Message};
use flash_transport::quic::server::{Server, ServerConfig};
use flash_transport::trust::{Fingerprint, Identity, ServerTrust};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint};
use rustls::crypto::ring::default_provider;
use support::{any_server, eventually, relay::Relay, server_config, LONG};

fn serve_at(address: SocketAddr, directory: &std::path::Path) -> Server {
    let identity = Identity::load_or_create(directory).unwrap();
    Server::bind(ServerConfig::new(address, identity, vec![0x80])).unwrap()
}

/// A client that gives a silent server up quickly.
fn forgetful_client(server: SocketAddr, pinned: Fingerprint) -> Client {
    let trust = ServerTrust::Pinned(pinned);
    let mut config = ClientConfig::new("127.0.0.1", server.port(), trust);
    config.link.idle = Duration::from_secs(1);
    Client::new(config).unwrap()
}

/// One request and its answer.
fn ask(client: &Client, server: &Server) {
    let pending = client.request(Message::new(vec![Kind::Infer.byte(), 0x80]), Some(LONG));
    answer_next(server);
    pending.wait_long().unwrap();
}

/// As [`ask`], of a client that may not know yet that its connection is gone.
fn ask_until_answered(client: &Client, server: &Server) {
    let until = Instant::now() + LONG;
    while Instant::now() < until {
        let pending = client.request(Message::new(vec![Kind::Infer.byte(), 0x80]), Some(LONG));
        while pending.wait(Duration::ZERO).is_none() {
            if let Next::Request(request) = server.next(Duration::from_millis(1)) {
                request.reply.answer(vec![ANSWER_OK, 0x80]).unwrap();
                pending.wait_long().unwrap();
                return;
            }
        }
    }
    panic!("no request came");
}

fn answer_next(server: &Server) {
    match server.next(LONG) {
        Next::Request(request) => request.reply.answer(vec![ANSWER_OK, 0x80]).unwrap(),
        other => panic!("no request came: {other:?}"),
    }
}

#[test]
fn a_client_that_comes_back_says_hello_with_its_first_flight() {
    let server = Server::bind(server_config()).unwrap();
    let relay = Relay::to(server.address());
    let client = forgetful_client(relay.address(), server.fingerprint());
    ask(&client, &server);
    assert_eq!(server.counters().hellos_resumed.value(), 0);
    for times in 1..=2 {
        relay.cut(true);
        eventually(|| server.connections() == 0);
        relay.cut(false);
        ask_until_answered(&client, &server);
        assert_eq!(server.counters().hellos_resumed.value(), times);
    }
    assert_eq!(client.metadata().unwrap(), vec![0x80]);
    assert_eq!(server.counters().connections_accepted.value(), 3);
    assert_eq!(server.counters().handshakes_failed.value(), 0);
}

#[test]
fn a_restarted_server_knows_no_session_and_the_client_says_hello_again() {
    let directory = std::env::temp_dir().join(format!("flash-resumption-{}", std::process::id()));
    let server = serve_at("127.0.0.1:0".parse().unwrap(), &directory);
    let client = forgetful_client(server.address(), server.fingerprint());
    ask(&client, &server);
    let address = server.address();
    drop(server);
    let server = serve_at(address, &directory);
    ask(&client, &server);
    assert_eq!(server.counters().hellos_resumed.value(), 0);
    assert_eq!(server.counters().connections_accepted.value(), 1);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn another_server_at_the_place_of_a_pinned_one_is_refused_though_a_session_is_offered() {
    let server = Server::bind(server_config()).unwrap();
    let client = forgetful_client(server.address(), server.fingerprint());
    ask(&client, &server);
    let address = server.address();
    drop(server);
    let identity = Identity::ephemeral().unwrap();
    let impostor = Server::bind(ServerConfig::new(address, identity, vec![0x80])).unwrap();
    let pending = client.request(Message::new(vec![Kind::Infer.byte(), 0x80]), Some(LONG));
    let error = pending.wait_long().unwrap_err();
    assert!(
        matches!(error, ClientError::UntrustedServer { .. }),
        "{error}"
    );
    assert_eq!(impostor.counters().requests_accepted.value(), 0);
}

/// A client that breaks the rule: it sends an infer before the handshake is over.
struct Hasty {
    runtime: tokio::runtime::Runtime,
    endpoint: Endpoint,
}

impl Hasty {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(any_server())
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.enable_early_data = true;
        let crypto = QuicClientConfig::try_from(tls).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        drop(_inside);
        Self { runtime, endpoint }
    }

    /// A first connection, for its session.
    fn get_session(&self, server: SocketAddr) {
        self.runtime.block_on(async {
            let connecting = self.endpoint.connect(server, "openpi-flash").unwrap();
            let connection = connecting.await.unwrap();
            exchange(&connection, Kind::Hello).await;
            connection.close(0u32.into(), b"");
            self.endpoint.wait_idle().await;
        });
    }

    /// Hello and an infer in the first flight; `meanwhile` is called as soon as `is_there` holds.
    fn hasty_request(
        &self,
        server: SocketAddr,
        is_there: impl Fn() -> bool,
        meanwhile: impl FnOnce(),
    ) -> Vec<u8> {
        self.runtime.block_on(async {
            let connecting = self.endpoint.connect(server, "openpi-flash").unwrap();
            let Ok((connection, accepted)) = connecting.into_0rtt() else {
                panic!("no session to resume");
            };
            let (hello, answer, ()) = tokio::join!(
                exchange(&connection, Kind::Hello),
                exchange(&connection, Kind::Infer),
                async {
                    while !is_there() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    meanwhile();
                }
            );
            assert_eq!(hello, [ANSWER_OK, 0x80]);
            assert!(accepted.await);
            connection.close(0u32.into(), b"");
            self.endpoint.wait_idle().await;
            answer
        })
    }
}

async fn exchange(connection: &Connection, kind: Kind) -> Vec<u8> {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&[kind.byte(), 0x80]).await.unwrap();
    send.finish().unwrap();
    receive.read_to_end(1 << 20).await.unwrap()
}

#[test]
fn an_infer_in_a_first_flight_waits_until_the_client_has_shown_that_it_lives() {
    let server = Server::bind(server_config()).unwrap();
    let relay = Relay::to(server.address());
    let client = Hasty::new();
    client.get_session(relay.address());
    relay.hold_after_first_flight();
    std::thread::scope(|scope| {
        scope.spawn(|| answer_next(&server));
        let is_there = || server.counters().hellos_resumed.value() == 1;
        let answer = client.hasty_request(relay.address(), is_there, || {
            assert_eq!(server.counters().requests_accepted.value(), 0);
            relay.let_all_pass();
        });
        assert_eq!(answer, [ANSWER_OK, 0x80]);
    });
    assert_eq!(server.counters().requests_accepted.value(), 1);
}

#[test]
fn a_replayed_first_flight_is_not_accepted_again() {
    let server = Server::bind(server_config()).unwrap();
    let relay = Relay::to(server.address());
    let client = Hasty::new();
    client.get_session(relay.address());
    relay.record();
    std::thread::scope(|scope| {
        scope.spawn(|| answer_next(&server));
        client.hasty_request(relay.address(), || true, || {});
    });
    eventually(|| server.connections() == 0);
    let before = server.counters().datagrams_received.value();

    let recorded = relay.recorded();
    assert!(!recorded.is_empty());
    let thief = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for datagram in &recorded {
        thief.send_to(datagram, server.address()).unwrap();
    }
    let sent = recorded.len() as u64;
    eventually(|| server.counters().datagrams_received.value() >= before + sent);
    // The server has answered the replayed handshake by now, and waits for an end of it that the thief cannot make.
    eventually(|| server.connections() == 1);
    assert_eq!(server.counters().requests_accepted.value(), 1);
    assert_eq!(server.counters().hellos_resumed.value(), 1);
    assert!(matches!(
        server.next(Duration::from_millis(100)),
        Next::Nothing
    ));
}
