//! What the test programs over real sockets have in common.

#![allow(
    dead_code,
    reason = "each of the test programs that share this uses a part of it"
)]

mod any_server;
pub mod lossy;
pub mod raw;
pub mod relay;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flash_transport::link::queue::Next;
use flash_transport::link::request::Request;
use flash_transport::link::wire::{Kind, ANSWER_OK};
use flash_transport::local::server::LocalServer;
use flash_transport::quic::client::Message;
use flash_transport::quic::server::{Server, ServerConfig};
use flash_transport::trust::{danger::AcceptAnyServer, Identity, ServerTrust};

pub use any_server::any_server;

/// Long enough for any machine; never waited for to the end when all is well.
pub const LONG: Duration = Duration::from_secs(60);
pub const ANY_SERVER: ServerTrust = ServerTrust::DangerAnyServer(AcceptAnyServer);

/// A server on a port of its own, whose metadata are an empty map.
pub fn server_config() -> ServerConfig {
    let address = "127.0.0.1:0".parse().unwrap();
    ServerConfig::new(address, Identity::ephemeral().unwrap(), vec![0x80])
}

/// For a unix socket.
pub fn fresh_path() -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("flash-test-{}-{number}.sock", std::process::id()))
}

pub fn infer(body: &[u8]) -> Message {
    Message::new([&[Kind::Infer.byte()], body].concat())
}

/// Either server.
pub trait Serves {
    fn next_within(&self, time: Duration) -> Next<Request>;
}

impl Serves for Server {
    fn next_within(&self, time: Duration) -> Next<Request> {
        self.next(time)
    }
}

impl Serves for LocalServer {
    fn next_within(&self, time: Duration) -> Next<Request> {
        self.next(time)
    }
}

pub fn next(server: &impl Serves) -> Request {
    match server.next_within(LONG) {
        Next::Request(request) => request,
        other => panic!("no request came: {other:?}"),
    }
}

/// Answer with what was asked.
pub fn echo(request: &Request) {
    let answer = [&[ANSWER_OK], request.body.as_slice()].concat();
    request.reply.answer(answer).unwrap();
}

/// Answer everything until the server is closed.
pub fn echo_all(server: &impl Serves) {
    while let Next::Request(request) = server.next_within(LONG) {
        echo(&request);
    }
}

/// Wait for what another thread is about to do.
pub fn eventually(holds: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < until, "it never came to hold");
        std::thread::sleep(Duration::from_millis(1));
    }
}
