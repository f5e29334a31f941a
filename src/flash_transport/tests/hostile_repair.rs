//! A server whose client sends wrong repair, or breaks off in the middle of it.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use flash_transport::link::wire::{Kind, ANSWER_OK};
use flash_transport::quic::server::Server;
use flash_transport::repair::{symbols, Repair, Shape};
use support::raw::{Asked, Raw, RawSettings};
use support::{echo, echo_all, eventually, next, server_config};

const PAYLOAD: usize = 1_200;
const LENGTH: usize = 50_000;

fn message(seed: usize) -> Vec<u8> {
    let body = (1..LENGTH).map(|i| (i * seed) as u8);
    std::iter::once(Kind::Infer.byte()).chain(body).collect()
}

/// Datagrams of two rows of repair for the stream.
fn repair(message: &[u8], stream: u64) -> Vec<Bytes> {
    let pieces = Shape::row_pieces_for(message.len(), PAYLOAD);
    let shape = Shape::new(message.len(), pieces, 2).unwrap();
    let repair = Repair::new(shape, &[Bytes::copy_from_slice(message)]).unwrap();
    symbols(&repair, stream, PAYLOAD).collect()
}

fn connect(server: &Server) -> Raw {
    let raw = Raw::connect(server.address(), RawSettings::default());
    raw.say_hello_with_repair();
    raw
}

/// The server has read the stream, and answers what was sent.
fn answered(server: &Server, asked: Asked, message: &[u8]) {
    let request = next(server);
    assert!(*request.body == message[1..]);
    echo(&request);
    let answer = asked.read().unwrap();
    assert_eq!(answer[0], ANSWER_OK);
    assert!(answer[1..] == message[1..]);
}

#[test]
fn repair_of_another_message_is_refused_and_the_stream_read_to_its_end() {
    let server = Server::bind(server_config()).unwrap();
    let raw = connect(&server);
    let message = message(31);
    let mut asked = raw.begin(&message[..LENGTH - 500]);
    for datagram in repair(&self::message(7), asked.stream()) {
        raw.send_datagram(datagram);
    }
    eventually(|| server.counters().repair_refused.value() == 1);
    asked.write(&message[LENGTH - 500..]);
    asked.finish();
    answered(&server, asked, &message);
    assert_eq!(server.counters().requests_rebuilt.value(), 0);
}

#[test]
fn good_repair_stands_for_what_never_comes() {
    let server = Server::bind(server_config()).unwrap();
    let raw = connect(&server);
    let message = message(31);
    let asked = raw.begin(&message[..LENGTH - 500]);
    for datagram in repair(&message, asked.stream()) {
        raw.send_datagram(datagram);
    }
    answered(&server, asked, &message);
    assert_eq!(server.counters().requests_rebuilt.value(), 1);
}

#[test]
fn a_flood_of_nonsense_and_of_repair_for_no_stream_costs_no_request() {
    let server = Server::bind(server_config()).unwrap();
    let raw = connect(&server);
    let message = message(31);
    for number in 0..400u32 {
        let mut nonsense = vec![0x01; number as usize % 300];
        nonsense.extend(number.to_be_bytes());
        raw.send_datagram(nonsense);
        for datagram in repair(&message, u64::from(4_000 + 4 * number)) {
            raw.send_datagram(datagram);
        }
    }
    let asked = raw.ask(&message);
    answered(&server, asked, &message);
}

#[test]
fn a_request_that_is_reset_under_its_repair_leaves_the_connection_as_it_was() {
    let mut config = server_config();
    config.limits.connection_bytes = 3 * LENGTH;
    let server = Server::bind(config).unwrap();
    let raw = connect(&server);
    let message = message(31);
    for _ in 0..20 {
        let asked = raw.begin(&message[..LENGTH / 2]);
        for datagram in repair(&message, asked.stream()) {
            raw.send_datagram(datagram);
        }
        asked.reset();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| echo_all(&server));
        // What they held is free again.
        eventually(|| {
            let answer = raw.ask(&message).read().unwrap();
            answer[0] == ANSWER_OK
        });
        server.close();
    });
}
