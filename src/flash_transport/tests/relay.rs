//! A server and a client that meet at a relay: on paths of their own that lose packets, through a restart of the relay, and without it where they reach each other.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{mpsc, Arc};
use std::thread::JoinHandle;
use std::time::Duration;

use flash_transport::quic::client::{Client, ClientConfig, ClientError};
use flash_transport::quic::relay::service::{RelayConfig, RelayService};
use flash_transport::quic::server::{Server, ServerConfig};
use flash_transport::relay::access::RelayAccess;
use flash_transport::relay::forwarding::{RelayEvent, RelayLimits};
use flash_transport::relay::token::{Name, Token};
use flash_transport::trust::{Identity, ServerTrust};
use support::lossy::LossyPath;
use support::{echo_all, eventually, infer, server_config, LONG};

const NAME: &str = "lab1";

fn token(letter: &str) -> Token {
    Token::new(&letter.repeat(32)).unwrap()
}

fn relay_at(address: SocketAddr) -> RelayService {
    relay_telling(address, |_| {})
}

fn relay_telling(
    address: SocketAddr,
    tell: impl FnMut(RelayEvent) + Send + 'static,
) -> RelayService {
    let config = RelayConfig {
        address,
        tokens: [(Name::new(NAME).unwrap(), token("a"))].into(),
        limits: RelayLimits::default(),
    };
    RelayService::bind(config, tell).unwrap()
}

fn relay() -> RelayService {
    relay_at("127.0.0.1:0".parse().unwrap())
}

fn access(relay: SocketAddr) -> RelayAccess {
    RelayAccess {
        host: relay.ip().to_string(),
        port: relay.port(),
        name: Name::new(NAME).unwrap(),
        token: token("a"),
    }
}

/// A server that answers with what it is asked, until it is dropped.
struct Echo {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn at(relay: SocketAddr) -> Self {
        Self::with(relay, Identity::ephemeral().unwrap())
    }

    fn with(relay: SocketAddr, identity: Identity) -> Self {
        let mut config = ServerConfig {
            identity,
            ..server_config()
        };
        config.relay = Some(access(relay));
        let server = Arc::new(Server::bind(config).unwrap());
        let echoing = server.clone();
        let thread = std::thread::spawn(move || echo_all(&*echoing));
        Self {
            server,
            thread: Some(thread),
        }
    }

    fn client(&self, relay: SocketAddr) -> Client {
        self.client_with(relay, |_| {})
    }

    fn client_with(&self, relay: SocketAddr, change: impl FnOnce(&mut ClientConfig)) -> Client {
        let trust = ServerTrust::Pinned(self.server.fingerprint());
        let mut config = ClientConfig::new(NAME, 5555, trust);
        config.relay = Some(access(relay));
        config.connect_timeout = LONG;
        change(&mut config);
        Client::new(config).unwrap()
    }

    fn connections(&self) -> u64 {
        self.server.counters().connections_accepted.value()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.server.close();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn ask(client: &Client, number: u8) {
    let body = vec![number; 100_000];
    let answer = client.request(infer(&body), Some(LONG)).wait_long();
    assert_eq!(answer.unwrap().bytes[1..], body);
}

/// Both ends behind paths that let in what the relay sends and nothing else.
fn behind_nats(relay: &RelayService) -> [LossyPath; 2] {
    [2, 3].map(|host| LossyPath::from_ip([127, 0, 0, host], relay.address()))
}

#[test]
fn requests_pass_under_loss_between_two_that_reach_only_the_relay() {
    let relay = relay();
    let [of_server, of_client] = behind_nats(&relay);
    let echo = Echo::at(of_server.address());
    let client = echo.client(of_client.address());
    for number in 0..10 {
        let before = relay.forwarded();
        ask(&client, number);
        // 100 kB each way.
        assert!(relay.forwarded() - before > 130);
    }
    assert_eq!(echo.connections(), 1);
}

#[test]
fn a_relay_that_restarts_carries_the_same_connection_on() {
    let relay = relay();
    let address = relay.address();
    let [of_server, of_client] = behind_nats(&relay);
    let echo = Echo::at(of_server.address());
    let client = echo.client(of_client.address());
    ask(&client, 1);
    relay.close();
    let pending = client.request(infer(&[2; 1000]), Some(LONG));
    assert!(pending.wait(Duration::from_millis(300)).is_none());
    let relay = relay_at(address);
    assert_eq!(pending.wait_long().unwrap().bytes[1..], [2; 1000]);
    ask(&client, 3);
    assert!(relay.forwarded() > 0);
    assert_eq!(echo.connections(), 1);
}

#[test]
fn two_that_reach_each_other_do_without_the_relay() {
    let relay = relay();
    let echo = Echo::at(relay.address());
    let client = echo.client(relay.address());
    eventually(|| {
        let before = relay.forwarded();
        ask(&client, 1);
        relay.forwarded() == before
    });
    relay.close();
    ask(&client, 2);
    assert_eq!(echo.connections(), 1);
}

#[test]
fn a_server_that_restarts_with_its_certificate_has_its_name_again_at_once() {
    let (tell, told) = mpsc::channel();
    let relay = relay_telling("127.0.0.1:0".parse().unwrap(), move |event| {
        let _ = tell.send(event);
    });
    let folder = support::fresh_path();
    let identity = || Identity::load_or_create(&folder).unwrap();
    let echo = Echo::with(relay.address(), identity());
    let client = echo.client(relay.address());
    ask(&client, 1);
    drop(echo);
    let _echo = Echo::with(relay.address(), identity());
    ask(&client, 2);
    relay.close();
    let refused = told
        .try_iter()
        .filter(|event| matches!(event, RelayEvent::Refused(..)));
    assert_eq!(refused.collect::<Vec<_>>(), []);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_relay_of_both_families_joins_ends_of_either() {
    // A machine without IPv6 cannot show this.
    if UdpSocket::bind("[::1]:0").is_err() {
        return;
    }
    let relay = relay_at("[::]:0".parse().unwrap());
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), relay.address().port());
    let echo = Echo::at(at("127.0.0.1"));
    let client = echo.client(at("::1"));
    let before = relay.forwarded();
    for number in 0..3 {
        ask(&client, number);
    }
    assert!(relay.forwarded() - before > 400);
    assert_eq!(echo.connections(), 1);
}

#[test]
fn clients_of_the_servers_own_port_are_served_beside_those_of_the_relay() {
    let relay = relay();
    let echo = Echo::at(relay.address());
    let relayed = echo.client(relay.address());
    let port = echo.server.address().port();
    let ordinary = echo.client_with(relay.address(), |config| {
        (config.host, config.port, config.relay) = ("127.0.0.1".to_owned(), port, None);
    });
    for number in 0..3 {
        ask(&relayed, number);
        ask(&ordinary, number);
    }
    assert_eq!(echo.connections(), 2);
}

/// What the first request ends in, when the client has tried to connect for long enough.
fn failure(client: &Client) -> ClientError {
    let pending = client.request(infer(b"x"), Some(LONG));
    pending.wait_long().unwrap_err()
}

const LONG_ENOUGH: Duration = Duration::from_secs(4);

#[test]
fn the_certificate_is_checked_from_end_to_end() {
    let relay = relay();
    let echo = Echo::at(relay.address());
    let client = echo.client_with(relay.address(), |config| {
        config.trust = ServerTrust::Pinned(Identity::ephemeral().unwrap().fingerprint());
    });
    let pending = client.request(infer(b"x"), Some(LONG));
    let error = pending.wait_long().unwrap_err();
    assert!(
        matches!(error, ClientError::UntrustedServer { .. }),
        "{error}"
    );
}

#[test]
fn why_a_relay_does_not_help_is_said() {
    let relay = relay();
    let echo = Echo::at(relay.address());
    ask(&echo.client(relay.address()), 1);
    let wrong_token = echo.client_with(relay.address(), |config| {
        config.connect_timeout = LONG_ENOUGH;
        config.relay = Some(RelayAccess {
            token: token("b"),
            ..access(relay.address())
        });
    });
    let error = failure(&wrong_token).to_string();
    assert!(error.contains("or its token is another one"), "{error}");
    echo.server.close();
    relay.close();
    let patient = || {
        echo.client_with(relay.address(), |config| {
            config.connect_timeout = LONG_ENOUGH;
        })
    };
    let error = failure(&patient()).to_string();
    assert!(error.contains("the relay is silent"), "{error}");
    let _without_server = relay_at(relay.address());
    let error = failure(&patient()).to_string();
    assert!(
        error.contains("no server of this name is registered"),
        "{error}"
    );
}

#[test]
fn noise_and_floods_of_strangers_do_not_disturb() {
    let relay = relay();
    let [of_server, of_client] = behind_nats(&relay);
    let echo = Echo::at(of_server.address());
    let client = echo.client(of_client.address());
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..5_u8 {
        for size in [0, 1, 9, 24, 60, 1400, 60_000] {
            for kind in 0..10 {
                let mut datagram = vec![number; size];
                datagram.iter_mut().take(1).for_each(|first| *first = kind);
                stranger.send_to(&datagram, relay.address()).unwrap();
            }
        }
        ask(&client, number);
    }
    assert_eq!(echo.connections(), 1);
}
