//! The server of a unix socket against a client that is written from `docs/protocol.md`.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use flash_transport::link::events::{ClientEvent, ClientEventKind};
use flash_transport::link::hello::Hello;
use flash_transport::link::keys::ApiKey;
use flash_transport::link::limits::ServerLimits;
use flash_transport::link::queue::Next;
use flash_transport::link::request::Request;
use flash_transport::link::wire::{Failure, Kind, ANSWER_ERROR, ANSWER_OK};
use flash_transport::local::server::{LocalServer, LocalServerConfig};
use support::{echo, eventually, fresh_path, next, LONG};

const CANCEL: u8 = 0x00;

fn config() -> LocalServerConfig {
    LocalServerConfig::new(fresh_path(), vec![0x80])
}

fn serve(config: LocalServerConfig) -> LocalServer {
    LocalServer::bind(config).unwrap()
}

struct Robot(UnixStream);

impl Robot {
    fn connect(server: &LocalServer) -> Self {
        let stream = UnixStream::connect(server.path()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut robot = Self(stream);
        // A server that turns it away may have hung up by now, which is seen by reading.
        let _ = robot.0.write_all(b"openpi-flash/1\n");
        robot
    }

    fn connect_and_say_hello(server: &LocalServer) -> Self {
        let mut robot = Self::connect(server);
        let hello = Hello {
            session: Some("arm".into()),
            ..Hello::default()
        };
        robot.send(0, &hello.encode().unwrap());
        assert_eq!(robot.receive(), (0, vec![ANSWER_OK, 0x80]));
        robot
    }

    fn send(&mut self, id: u32, message: &[u8]) {
        let length = u32::try_from(message.len()).unwrap();
        self.0.write_all(&length.to_le_bytes()).unwrap();
        self.0.write_all(&id.to_le_bytes()).unwrap();
        self.0.write_all(message).unwrap();
    }

    fn infer(&mut self, id: u32, body: &[u8]) {
        self.send(id, &[&[Kind::Infer.byte()], body].concat());
    }

    fn receive(&mut self) -> (u32, Vec<u8>) {
        let mut head = [0; 8];
        self.0.read_exact(&mut head).unwrap();
        let length = u32::from_le_bytes(head[..4].try_into().unwrap());
        let mut message = vec![0; length as usize];
        self.0.read_exact(&mut message).unwrap();
        (u32::from_le_bytes(head[4..].try_into().unwrap()), message)
    }

    fn receive_failure(&mut self, id: u32) -> Failure {
        let (got, message) = self.receive();
        assert_eq!((got, message[0]), (id, ANSWER_ERROR));
        Failure::decode(&message[1..]).unwrap()
    }

    fn sees_the_end(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}

#[test]
fn a_request_comes_back_as_it_was_sent() {
    let server = serve(config());
    let mut robot = Robot::connect_and_say_hello(&server);
    let body: Vec<u8> = (0..3_000_000).map(|index| (index % 251) as u8).collect();
    // Neither end's kernel holds all of it.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let request = next(&server);
            assert_eq!(request.kind, Kind::Infer);
            assert_eq!(&*request.session, "arm");
            assert!(request.peer.ends_with("#1"), "{}", request.peer);
            echo(&request);
        });
        robot.infer(7, &body);
        let (id, answer) = robot.receive();
        assert_eq!(id, 7);
        assert_eq!(answer[1..], body);
    });
}

#[test]
fn answers_find_their_requests_whatever_their_order() {
    let server = serve(config());
    let mut robot = Robot::connect_and_say_hello(&server);
    for id in [3, 1, 2] {
        robot.infer(id, &[id as u8]);
    }
    let mut requests = [(); 3].map(|()| next(&server));
    requests.reverse();
    requests.iter().for_each(echo);
    for id in [2, 1, 3] {
        assert_eq!(robot.receive(), (id, vec![ANSWER_OK, id as u8]));
    }
}

#[test]
fn a_cancelled_request_is_not_answered_and_the_policy_sees_it() {
    let server = serve(config());
    let mut robot = Robot::connect_and_say_hello(&server);
    robot.infer(1, b"stale");
    let taken = next(&server);
    robot.infer(2, b"waiting");
    eventually(|| server.counters().requests_accepted.value() == 2);
    robot.send(1, &[CANCEL]);
    robot.send(2, &[CANCEL]);
    eventually(|| taken.reply.is_cancelled());
    echo(&taken);
    robot.infer(3, b"fresh");
    eventually(|| server.counters().requests_accepted.value() == 3);
    let request = next(&server);
    assert_eq!(request.body, b"fresh");
    echo(&request);
    assert_eq!(robot.receive().0, 3);
    assert_eq!(server.counters().requests_cancelled.value(), 2);
}

#[test]
fn cancelling_what_nobody_knows_is_harmless() {
    let server = serve(config());
    let mut robot = Robot::connect_and_say_hello(&server);
    robot.send(99, &[CANCEL]);
    robot.infer(1, b"x");
    echo(&next(&server));
    assert_eq!(robot.receive().0, 1);
}

#[test]
fn a_client_that_leaves_cancels_its_requests() {
    let server = serve(config());
    let mut robot = Robot::connect_and_say_hello(&server);
    robot.infer(1, b"x");
    let request = next(&server);
    drop(robot);
    eventually(|| request.reply.is_cancelled());
    echo(&request);
    assert!(server.wait_settled(LONG));
}

#[test]
fn nothing_but_a_hello_comes_first() {
    let server = serve(config());
    let mut robot = Robot::connect(&server);
    robot.infer(1, b"x");
    assert_eq!(robot.receive_failure(1).code, "unauthenticated");
    assert!(robot.sees_the_end());
}

#[test]
fn a_wrong_key_is_refused_and_cannot_be_tried_again() {
    let mut config = config();
    config.api_keys = vec![ApiKey::new("right").unwrap()];
    let server = serve(config);
    for key in [None, Some("wrong".to_owned())] {
        let mut robot = Robot::connect(&server);
        let hello = Hello {
            api_key: key.map(|key| ApiKey::new(key).unwrap()),
            ..Hello::default()
        };
        robot.send(0, &hello.encode().unwrap());
        assert_eq!(robot.receive_failure(0).code, "unauthenticated");
        assert!(robot.sees_the_end());
    }
    assert_eq!(server.counters().clients_unauthenticated.value(), 2);
}

#[test]
fn a_stranger_is_told_what_this_is_and_turned_away() {
    let server = serve(config());
    let mut stranger = Robot(UnixStream::connect(server.path()).unwrap());
    stranger.0.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let failure = stranger.receive_failure(u32::MAX);
    assert!(failure.message.contains("openpi-flash/1"), "{failure:?}");
    assert!(stranger.sees_the_end());
}

#[test]
fn a_message_that_is_too_large_is_refused_and_the_next_one_is_found() {
    let mut config = config();
    config.limits = ServerLimits::with_message_bytes(100_000);
    let server = serve(config);
    let mut robot = Robot::connect_and_say_hello(&server);
    robot.infer(1, &vec![0; 100_001]);
    let failure = robot.receive_failure(1);
    assert_eq!(failure.code, "bad_request");
    assert!(failure.message.contains("100000 bytes"), "{failure:?}");
    robot.infer(2, &vec![0; 100_000]);
    echo(&next(&server));
    assert_eq!(robot.receive().0, 2);
}

#[test]
fn more_unanswered_bytes_than_a_client_may_have_are_refused() {
    let mut config = config();
    config.limits = ServerLimits::with_message_bytes(100_000);
    let server = serve(config);
    let mut robot = Robot::connect_and_say_hello(&server);
    for id in [1, 2, 3] {
        robot.infer(id, &vec![0; 100_000]);
    }
    assert_eq!(robot.receive_failure(3).code, "not_ready");
    let requests = [next(&server), next(&server)];
    requests.iter().for_each(echo);
    assert_eq!([robot.receive().0, robot.receive().0], [1, 2]);
    // Its room is free once the policy lets go of it.
    drop(requests);
    robot.infer(4, &vec![0; 100_000]);
    echo(&next(&server));
    assert_eq!(robot.receive().0, 4);
}

#[test]
fn a_number_in_use_ends_the_connection() {
    let server = serve(config());
    let mut robot = Robot::connect_and_say_hello(&server);
    robot.infer(1, b"first");
    let request = next(&server);
    robot.infer(1, b"second");
    assert!(robot.sees_the_end());
    eventually(|| request.reply.is_cancelled());
}

#[test]
fn a_client_that_stops_in_mid_message_loses_its_connection_and_costs_nobody_else_anything() {
    let mut config = config();
    config.limits.request_time = Duration::from_millis(50);
    let server = serve(config);
    let mut half = Robot::connect_and_say_hello(&server);
    half.0.write_all(&1_000u32.to_le_bytes()).unwrap();
    half.0.write_all(&[1, 0, 0, 0, 2, 0, 0]).unwrap();
    let mut robot = Robot::connect_and_say_hello(&server);
    robot.infer(1, b"x");
    echo(&next(&server));
    assert_eq!(robot.receive().0, 1);
    assert!(half.sees_the_end());
}

#[test]
fn a_silent_client_is_given_up_before_its_hello_and_not_after() {
    let mut config = config();
    config.limits.hello_time = Duration::from_millis(300);
    config.limits.request_time = Duration::from_millis(20);
    let server = serve(config);
    let mut robot = Robot::connect_and_say_hello(&server);
    assert!(Robot::connect(&server).sees_the_end());
    let mut mute = Robot(UnixStream::connect(server.path()).unwrap());
    assert!(mute.sees_the_end());
    robot.infer(1, b"x");
    echo(&next(&server));
    assert_eq!(robot.receive().0, 1);
}

#[test]
fn a_slow_reader_delays_nobody_and_gets_its_answer_whole() {
    let server = serve(config());
    let mut slow = Robot::connect_and_say_hello(&server);
    let mut robot = Robot::connect_and_say_hello(&server);
    slow.infer(1, b"x");
    let request = next(&server);
    let large = vec![7; 20 << 20];
    request
        .reply
        .answer([&[ANSWER_OK], large.as_slice()].concat())
        .unwrap();
    robot.infer(1, b"y");
    echo(&next(&server));
    assert_eq!(robot.receive().0, 1);
    assert_eq!(slow.receive().1[1..], large);
}

#[test]
fn a_reader_that_never_reads_is_given_up() {
    let mut config = config();
    config.limits.answer_time = Duration::from_millis(50);
    let server = serve(config);
    let mut deaf = Robot::connect_and_say_hello(&server);
    deaf.infer(1, b"x");
    next(&server).reply.answer(vec![0; 20 << 20]).unwrap();
    let gone = |event: &ClientEvent| event.kind == ClientEventKind::Disconnected;
    while !server.events().next(LONG).unwrap().iter().any(gone) {}
    // What the kernel holds can still be read, then it is over before the whole answer.
    let mut got = 0;
    let mut chunk = vec![0; 1 << 20];
    while let Ok(count @ 1..) = deaf.0.read(&mut chunk) {
        got += count;
    }
    assert!(got < 20 << 20, "{got} bytes came");
}

#[test]
fn a_server_that_is_not_ready_says_so_until_it_is() {
    let server = serve(LocalServerConfig::new(fresh_path(), None));
    let mut robot = Robot::connect(&server);
    let hello = Hello::default().encode().unwrap();
    robot.send(0, &hello);
    assert_eq!(robot.receive_failure(0).code, "not_ready");
    robot.infer(1, b"x");
    assert_eq!(robot.receive_failure(1).code, "not_ready");
    server.set_metadata(&[0x80]);
    robot.send(2, &hello);
    assert_eq!(robot.receive(), (2, vec![ANSWER_OK, 0x80]));
    robot.infer(3, b"x");
    echo(&next(&server));
    assert_eq!(robot.receive().0, 3);
}

#[test]
fn a_draining_server_answers_what_it_took_on_and_nothing_else() {
    let server = serve(config());
    let mut robot = Robot::connect_and_say_hello(&server);
    robot.infer(1, b"x");
    let request = next(&server);
    server.stop_accepting();
    robot.infer(2, b"y");
    assert_eq!(robot.receive_failure(2).code, "not_ready");
    assert!(!server.wait_settled(Duration::ZERO));
    echo(&request);
    assert!(server.wait_settled(LONG));
    assert_eq!(robot.receive().0, 1);
}

#[test]
fn a_draining_server_has_not_settled_before_its_answer_is_read() {
    let server = serve(config());
    let mut slow = Robot::connect_and_say_hello(&server);
    slow.infer(1, b"x");
    let answer = vec![0; 20 << 20];
    next(&server).reply.answer(answer.clone()).unwrap();
    server.stop_accepting();
    assert!(!server.wait_settled(Duration::from_millis(1)));
    thread::scope(|scope| {
        let reader = scope.spawn(|| slow.receive());
        assert!(server.wait_settled(LONG));
        assert_eq!(reader.join().unwrap(), (1, answer));
    });
}

#[test]
fn a_closing_server_answers_what_nobody_took_and_removes_its_file() {
    let server = serve(config());
    let mut robot = Robot::connect_and_say_hello(&server);
    robot.infer(1, b"x");
    eventually(|| server.counters().requests_accepted.value() == 1);
    server.close();
    assert_eq!(robot.receive_failure(1).code, "not_ready");
    assert!(robot.sees_the_end());
    assert!(!server.path().exists());
    assert!(matches!(server.next(LONG), Next::Closed));
}

#[test]
fn sixty_four_clients_are_served_at_once() {
    let server = serve(config());
    let robots: Vec<Robot> = (0..64)
        .map(|number: u8| {
            let mut robot = Robot::connect_and_say_hello(&server);
            robot.infer(1, &[number]);
            robot
        })
        .collect();
    let requests: Vec<Request> = robots.iter().map(|_| next(&server)).collect();
    requests.iter().rev().for_each(echo);
    for (number, mut robot) in robots.into_iter().enumerate() {
        assert_eq!(robot.receive(), (1, vec![ANSWER_OK, number as u8]));
    }
}

#[test]
fn one_client_too_many_is_turned_away() {
    let mut config = config();
    config.limits.connections = 1;
    let server = serve(config);
    let first = Robot::connect_and_say_hello(&server);
    assert!(Robot::connect(&server).sees_the_end());
    drop(first);
    eventually(|| {
        let mut robot = Robot(UnixStream::connect(server.path()).unwrap());
        robot.0.write_all(b"openpi-flash/1\n").is_ok() && {
            let hello = Hello::default().encode().unwrap();
            let length = (hello.len() as u32).to_le_bytes();
            let sent = robot
                .0
                .write_all(&[&length, &[0; 4], hello.as_slice()].concat());
            sent.is_ok() && !robot.sees_the_end()
        }
    });
}
