//! A server among many clients of which some are greedy, slow, silent or broken: the others do not notice.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flash_transport::link::limits::ServerLimits;
use flash_transport::link::queue::Next;
use flash_transport::link::wire::{Kind, ANSWER_ERROR, ANSWER_OK};
use flash_transport::quic::client::{Client, ClientConfig, ClientError, Message};
use flash_transport::quic::server::Server;
use support::{
    eventually,
    raw::{Raw, RawSettings},
    server_config, ANY_SERVER, LONG,
};

const HELLO: &[u8] = &[0x01, 0x80];

fn serve(limits: ServerLimits) -> Server {
    let mut config = server_config();
    config.limits = limits;
    Server::bind(config).unwrap()
}

/// Answer everything with `answer` of its body, until `work` is done.
fn while_answering<T>(
    server: &Server,
    answer: impl Fn(&[u8]) -> Vec<u8> + Sync,
    work: impl FnOnce() -> T,
) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Next::Request(request) = server.next(Duration::from_millis(5)) {
                    request.reply.answer(answer(&request.body)).unwrap();
                }
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn echo(body: &[u8]) -> Vec<u8> {
    [&[ANSWER_OK], body].concat()
}

fn connect(server: &Server) -> Client {
    let mut config = ClientConfig::new("127.0.0.1", server.address().port(), ANY_SERVER);
    config.connect_timeout = LONG;
    let client = Client::new(config).unwrap();
    client.meet(LONG).wait_long().unwrap();
    client
}

fn infer(client: &Client, body: &[u8]) -> Result<Vec<u8>, ClientError> {
    let message = [&[Kind::Infer.byte()], body].concat();
    let answer = client
        .request(Message::new(message), Some(LONG))
        .wait_long()?;
    Ok(answer.bytes[1..].to_vec())
}

#[test]
fn sixty_four_clients_at_once_each_get_their_own_answers() {
    let server = serve(ServerLimits::default());
    while_answering(&server, echo, || {
        let clients: Vec<_> = (0..64).map(|_| connect(&server)).collect();
        assert_eq!(server.connections(), 64);
        std::thread::scope(|scope| {
            for (number, client) in clients.iter().enumerate() {
                scope.spawn(move || {
                    for round in 0..5u8 {
                        let body = vec![number as u8 ^ round; 20_000 + number];
                        assert_eq!(infer(client, &body).unwrap(), body);
                    }
                });
            }
        });
    });
    assert_eq!(server.counters().requests_accepted.value(), 64 * 5);
    eventually(|| server.connections() == 0);
}

#[test]
fn a_client_that_floods_the_queue_lets_others_through_after_one_of_its_requests() {
    let server = serve(ServerLimits::default());
    let flood = Raw::connect(server.address(), RawSettings::default());
    flood.say_hello();
    let _unread: Vec<_> = (0..60).map(|_| flood.ask(b"\x02flood")).collect();
    eventually(|| server.counters().requests_accepted.value() == 60);
    let client = connect(&server);
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| infer(&client, b"robot"));
        eventually(|| server.counters().requests_accepted.value() == 61);
        let order = [(); 2].map(|()| match server.next(LONG) {
            Next::Request(request) => {
                request.reply.answer(echo(&request.body)).unwrap();
                request.body.to_vec()
            }
            other => panic!("no request came: {other:?}"),
        });
        assert!(order.contains(&b"robot".to_vec()), "{order:?}");
        assert_eq!(answer.join().unwrap().unwrap(), b"robot");
    });
}

#[test]
fn streams_that_are_opened_and_reset_pile_nothing_up() {
    let server = serve(ServerLimits::with_message_bytes(100_000));
    let rapid = Raw::connect(server.address(), RawSettings::default());
    rapid.say_hello();
    let client = connect(&server);
    while_answering(&server, echo, || {
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| rapid.open_and_reset(5000, &[0x02; 1000]));
            while !flood.is_finished() {
                assert_eq!(infer(&client, b"robot").unwrap(), b"robot");
            }
        });
        // Nothing of it is left in the accounts: the whole part of the connection is free.
        let whole = vec![Kind::Infer.byte(); 100_000];
        for _ in 0..4 {
            assert_eq!(rapid.ask(&whole).read().unwrap().len(), 100_000);
        }
    });
}

#[test]
fn requests_that_are_sent_and_cancelled_leave_the_queue() {
    let server = serve(ServerLimits::with_message_bytes(100_000));
    let rapid = Raw::connect(server.address(), RawSettings::default());
    rapid.say_hello();
    for _ in 0..500 {
        rapid.ask(&[0x02; 1000]).cancel();
    }
    eventually(|| {
        let counters = server.counters();
        counters.requests_accepted.value() == 500 && counters.requests_cancelled.value() == 500
    });
    assert!(matches!(server.next(Duration::ZERO), Next::Nothing));
}

#[test]
fn one_slow_reader_among_eight_costs_the_other_seven_nothing() {
    let server = serve(ServerLimits::default());
    let answer = |body: &[u8]| [&[ANSWER_OK][..], &vec![body[0]; 100_000]].concat();
    let clients: Vec<_> = (0..7).map(|_| connect(&server)).collect();
    // All round trips of seven clients that ask at the same time, sorted.
    let round_trips = || {
        let mut times: Vec<_> = std::thread::scope(|scope| {
            let asking = |(number, client)| {
                scope.spawn(move || {
                    let ask = |_| {
                        let asked = Instant::now();
                        let answer = infer(client, &[number as u8; 100]).unwrap();
                        assert_eq!(answer, vec![number as u8; 100_000]);
                        asked.elapsed()
                    };
                    (0..40).map(ask).collect::<Vec<_>>()
                })
            };
            let threads: Vec<_> = clients.iter().enumerate().map(asking).collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap());
            joined.flatten().collect()
        });
        times.sort_unstable();
        times
    };
    while_answering(&server, answer, || {
        let p99 = |times: Vec<Duration>| {
            assert_eq!(times.len(), 7 * 40);
            times[times.len() * 99 / 100]
        };
        let alone = p99(round_trips());
        let slow = Raw::connect(server.address(), RawSettings { window: 10_000 });
        slow.say_hello();
        let _unread: Vec<_> = (0..40).map(|_| slow.ask(&[0x02; 100])).collect();
        let accepted = 7 * 40 + 40;
        eventually(|| server.counters().requests_accepted.value() == accepted);
        // A busy machine holds up one round or another, a slow reader in the way all of them.
        let beside = [(); 3].map(|()| p99(round_trips()));
        assert!(
            beside
                .iter()
                .any(|p99| *p99 < alone * 4 + Duration::from_millis(100)),
            "{alone:?} alone, {beside:?} beside a slow reader"
        );
    });
}

#[test]
fn an_answer_that_nobody_reads_is_given_up_and_the_connection_goes_on() {
    let limits = ServerLimits {
        answer_time: Duration::from_millis(100),
        ..ServerLimits::default()
    };
    let server = serve(limits);
    let answer = |body: &[u8]| [&[ANSWER_OK][..], &vec![1; usize::from(body[0]) * 1000]].concat();
    while_answering(&server, answer, || {
        let slow = Raw::connect(server.address(), RawSettings { window: 50_000 });
        slow.say_hello();
        let unread = slow.ask(&[0x02, 200]);
        eventually(|| server.counters().answers_unread.value() == 1);
        assert!(unread.read().is_none(), "it was reset");
        assert_eq!(slow.ask(&[0x02, 1]).read().unwrap().len(), 1001);
    });
}

#[test]
fn a_client_that_reads_no_answers_may_ask_for_no_more_than_its_part() {
    let server = serve(ServerLimits::with_message_bytes(100_000));
    let answer = |body: &[u8]| [&[ANSWER_OK][..], &vec![1; usize::from(body[0]) * 1000]].concat();
    while_answering(&server, answer, || {
        let slow = Raw::connect(server.address(), RawSettings { window: 1000 });
        slow.say_hello();
        let unread: Vec<_> = (0..3).map(|_| slow.ask(&[0x02, 90])).collect();
        let refused = loop {
            // Until the three answers are there.
            let answer = slow.ask(&[0x02, 0]).read().unwrap();
            if answer[0] == ANSWER_ERROR {
                break String::from_utf8_lossy(&answer).into_owned();
            }
        };
        assert!(refused.contains("not_ready"), "{refused}");
        let client = connect(&server);
        assert_eq!(infer(&client, &[90]).unwrap().len(), 90_000);
        // What was answered is not lost.
        for asked in unread {
            assert_eq!(asked.read().unwrap().len(), 90_001);
        }
        assert_eq!(slow.ask(&[0x02, 1]).read().unwrap().len(), 1001);
    });
}

#[test]
fn peers_that_connect_and_stay_silent_are_sent_away_and_hinder_nobody() {
    let limits = ServerLimits {
        hello_time: Duration::from_secs(2),
        ..ServerLimits::default()
    };
    let server = serve(limits);
    let silent: Vec<_> = (0..20)
        .map(|number| {
            let peer = Raw::connect(server.address(), RawSettings::default());
            // Half of a hello is as good as none.
            let half = (number % 2 == 0).then(|| peer.begin(&HELLO[..1]));
            (peer, half)
        })
        .collect();
    while_answering(&server, echo, || {
        let client = connect(&server);
        assert_eq!(infer(&client, b"robot").unwrap(), b"robot");
        eventually(|| server.connections() == 1);
        assert_eq!(infer(&client, b"robot").unwrap(), b"robot");
    });
    assert_eq!(server.counters().clients_unauthenticated.value(), 20);
    drop(silent);
}

#[test]
fn a_request_that_is_begun_and_not_ended_ends_with_its_time() {
    let limits = ServerLimits {
        request_time: Duration::from_millis(100),
        ..ServerLimits::default()
    };
    let server = serve(limits);
    while_answering(&server, echo, || {
        let half = Raw::connect(server.address(), RawSettings::default());
        half.say_hello();
        let begun = half.begin(&[0x02; 50_000]);
        let answer = begun.read().unwrap();
        assert_eq!(answer[0], ANSWER_ERROR);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains("deadline_exceeded"), "{text}");
        assert_eq!(half.ask(b"\x02whole").read().unwrap()[1..], *b"whole");
    });
    assert_eq!(server.counters().requests_accepted.value(), 1);
}

#[test]
fn one_address_cannot_take_every_place() {
    let mut limits = ServerLimits::default();
    (limits.connections, limits.connections_of_address) = (8, 3);
    let server = serve(limits);
    let connect = || Raw::try_connect(server.address(), RawSettings::default());
    let mut held: Vec<_> = (0..3).map(|_| connect().unwrap()).collect();
    assert!(connect().is_none());
    assert_eq!(server.counters().connections_refused.value(), 1);
    drop(held.pop());
    eventually(|| server.connections() == 2);
    connect().unwrap();
}

#[test]
fn a_hello_longer_than_any_hello_is_refused_before_it_is_all_there() {
    let server = serve(ServerLimits::default());
    let peer = Raw::connect(server.address(), RawSettings::default());
    let mut hello = vec![0x01];
    hello.resize(900_000, 0x80);
    let answer = peer.ask(&hello).read().unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("larger than 65536 bytes"), "{text}");
    peer.say_hello();
}
