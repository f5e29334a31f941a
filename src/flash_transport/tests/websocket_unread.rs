//! A WebSocket client that asks and does not read.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flash_transport::link::events::{ClientEvent, ClientEventKind};
use flash_transport::link::queue::Next;
use flash_transport::link::wire::ANSWER_OK;
use flash_transport::websocket::frame::{masked_head, Opcode};
use flash_transport::websocket::server::{WebsocketServer, WebsocketServerConfig};
use support::{eventually, LONG};

const HANDSHAKE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

fn serve(answer_time: Duration) -> WebsocketServer {
    let mut config = WebsocketServerConfig::new("127.0.0.1:0".parse().unwrap(), vec![0x80]);
    config.limits.answer_time = answer_time;
    WebsocketServer::bind(config).unwrap()
}

/// A client that has its metadata, an empty map.
fn connect(server: &WebsocketServer) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(HANDSHAKE).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let mut metadata = [0; 3];
    stream.read_exact(&mut metadata).unwrap();
    assert_eq!(metadata, [0x82, 1, 0x80]);
    stream
}

fn ask(stream: &mut TcpStream) {
    stream.write_all(&masked_head(Opcode::Binary, 1)).unwrap();
    stream.write_all(&[0x80]).unwrap();
}

fn answer(server: &WebsocketServer, size: usize) {
    let Next::Request(request) = server.next(LONG) else {
        panic!("no request came");
    };
    let mut answer = vec![7; size];
    answer[0] = ANSWER_OK;
    request.reply.answer(answer).unwrap();
}

#[test]
fn a_client_that_does_not_read_its_answer_in_time_is_given_up_and_harms_no_other() {
    let server = serve(Duration::from_millis(50));
    let mut deaf = connect(&server);
    ask(&mut deaf);
    answer(&server, 20 << 20);
    eventually(|| server.core().counters.answers_unread.value() == 1);
    let gone = |event: &ClientEvent| event.kind == ClientEventKind::Disconnected;
    while !server.core().events.next(LONG).unwrap().iter().any(gone) {}
    // What the kernel holds can still be read, then it is over before the whole answer.
    let mut got = 0;
    let mut chunk = vec![0; 1 << 20];
    while let Ok(count @ 1..) = deaf.read(&mut chunk) {
        got += count;
    }
    assert!(got < 20 << 20, "{got} bytes came");
    assert_eq!(server.core().budget.used(), 0);

    let mut other = connect(&server);
    ask(&mut other);
    answer(&server, 3);
    let mut frame = [0; 4];
    other.read_exact(&mut frame).unwrap();
    assert_eq!(frame, [0x82, 2, 7, 7]);
}

#[test]
fn a_client_that_reads_slowly_but_in_time_gets_all_of_a_large_answer() {
    let server = serve(LONG);
    let mut slow = connect(&server);
    ask(&mut slow);
    answer(&server, 20 << 20);
    let mut received = vec![0; 10 + (20 << 20) - 1];
    slow.read_exact(&mut received).unwrap();
    assert!(received[10..].iter().all(|byte| *byte == 7));
    assert_eq!(server.core().counters.answers_unread.value(), 0);
}
