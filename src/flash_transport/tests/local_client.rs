//! Client and server over a unix socket.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use flash_transport::link::hello::Hello;
use flash_transport::link::keys::ApiKey;
use flash_transport::link::limits::ServerLimits;
use flash_transport::link::wire::{ErrorCode, Failure, Kind, ANSWER_OK};
use flash_transport::local::server::{LocalServer, LocalServerConfig};
use flash_transport::quic::client::{Client, ClientConfig, ClientError, Mail};
use flash_transport::trust::{danger::AcceptAnyServer, ServerTrust};
use support::{echo, echo_all, eventually, fresh_path, infer, next, LONG};

fn serve() -> LocalServer {
    serve_at(&fresh_path())
}

fn serve_at(path: &Path) -> LocalServer {
    LocalServer::bind(LocalServerConfig::new(path, vec![0x80])).unwrap()
}

fn client_config(path: &Path) -> ClientConfig {
    let host = format!("unix:{}", path.display());
    let mut config = ClientConfig::new(host, 5555, ServerTrust::DangerAnyServer(AcceptAnyServer));
    config.hello = Hello {
        session: Some("arm".into()),
        ..Hello::default()
    };
    config
}

fn connect(server: &LocalServer) -> Client {
    let client = Client::new(client_config(server.path())).unwrap();
    client.meet(LONG).wait_long().unwrap();
    client
}

#[test]
fn a_request_comes_back_as_it_was_sent() {
    let server = serve();
    let client = connect(&server);
    assert_eq!(client.metadata().unwrap(), vec![0x80]);
    assert_eq!(client.server(), format!("unix:{}", server.path().display()));
    let body: Vec<u8> = (0..3_000_000).map(|index| (index % 251) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let request = next(&server);
            assert_eq!(&*request.session, "arm");
            echo(&request);
        });
        let answer = client.request(infer(&body), None).wait_long().unwrap();
        assert_eq!(answer.bytes[1..], body);
        assert_eq!(answer.bytes_up, body.len() + 1);
    });
}

#[test]
fn any_number_of_threads_may_ask_at_once() {
    let server = serve();
    let client = connect(&server);
    std::thread::scope(|scope| {
        scope.spawn(|| echo_all(&server));
        let asking: Vec<_> = (0..8u8)
            .map(|thread| {
                let client = &client;
                scope.spawn(move || {
                    for round in 0..20u8 {
                        let body = vec![thread ^ round; 1000 * (1 + usize::from(thread))];
                        let answer = client.request(infer(&body), Some(LONG)).wait_long();
                        assert_eq!(answer.unwrap().bytes[1..], body);
                    }
                })
            })
            .collect();
        for thread in asking {
            thread.join().unwrap();
        }
        server.close();
    });
}

#[test]
fn who_waits_and_who_does_not_share_a_connection() {
    let server = serve();
    let client = connect(&server);
    let large = vec![5; 2_000_000];
    let mut interests = Vec::new();
    for ticket in 1..=3 {
        let session = format!("session {ticket}");
        let interest = client.submit(infer(&[ticket as u8]), None, session, ticket);
        interests.push(interest.unwrap());
    }
    std::thread::scope(|scope| {
        scope.spawn(|| echo_all(&server));
        let answer = client.request(infer(&large), Some(LONG)).wait_long();
        assert_eq!(answer.unwrap().bytes[1..], large);
        let mailbox = client.mailbox();
        let mut tickets = [(); 3].map(|()| match mailbox.next(LONG) {
            Mail::Outcome(ticket, Ok(answer)) => {
                assert_eq!(answer.bytes, [ANSWER_OK, ticket as u8]);
                ticket
            }
            other => panic!("no answer came: {other:?}"),
        });
        tickets.sort_unstable();
        assert_eq!(tickets, [1, 2, 3]);
        server.close();
    });
}

#[test]
fn a_request_times_out_by_its_own_clock_and_is_cancelled_at_the_server() {
    let server = serve();
    let client = connect(&server);
    let within = Duration::from_millis(30);
    let error = client.request(infer(b"x"), Some(within)).wait_long();
    let name = client.server().to_owned();
    assert_eq!(
        error,
        Err(ClientError::Timeout {
            server: name,
            within,
            silent: None,
        })
    );
    eventually(|| server.counters().requests_cancelled.value() == 1);
    let (asked, ()) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.request(infer(b"y"), Some(LONG)).wait_long());
        // The first is not taken any more.
        let request = next(&server);
        assert_eq!(request.body, b"y");
        echo(&request);
        (asked.join().unwrap(), ())
    });
    asked.unwrap();
}

#[test]
fn a_timeout_in_mid_message_costs_that_request_only() {
    // A server that reads nothing until the client has given up.
    let path = fresh_path();
    let listener = UnixListener::bind(&path).unwrap();
    let client = Client::new(client_config(&path)).unwrap();
    let (give_up, given_up) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let served = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut preface = [0; 15];
            stream.read_exact(&mut preface).unwrap();
            let read = |stream: &mut std::os::unix::net::UnixStream| {
                let mut head = [0; 8];
                stream.read_exact(&mut head).unwrap();
                let length = u32::from_le_bytes(head[..4].try_into().unwrap());
                let mut message = vec![0; length as usize];
                stream.read_exact(&mut message).unwrap();
                (head[4..].to_vec(), message)
            };
            let write = |stream: &mut std::os::unix::net::UnixStream, id: &[u8], message: &[u8]| {
                let length = u32::try_from(message.len()).unwrap().to_le_bytes();
                stream.write_all(&[&length, id, message].concat()).unwrap();
            };
            let (id, _hello) = read(&mut stream);
            write(&mut stream, &id, &[ANSWER_OK, 0x80]);
            given_up.recv().unwrap();
            let (first, large) = read(&mut stream);
            assert_eq!(large.len(), 20_000_001);
            assert!(large[1..].iter().all(|byte| *byte == 9));
            assert_eq!(read(&mut stream), (first, vec![0x00]));
            let (second, small) = read(&mut stream);
            assert_eq!(small, [Kind::Infer.byte(), 7]);
            write(&mut stream, &second, &[ANSWER_OK, 7]);
        });
        client.connect(LONG).wait_long().unwrap();
        let within = Duration::from_millis(20);
        let large = infer(&vec![9; 20_000_000]);
        let error = client.request(large, Some(within)).wait_long().unwrap_err();
        assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
        give_up.send(()).unwrap();
        let answer = client.request(infer(&[7]), Some(LONG)).wait_long().unwrap();
        assert_eq!(answer.bytes, [ANSWER_OK, 7]);
        served.join().unwrap();
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_restarted_server_costs_at_most_the_requests_that_it_had() {
    let path = fresh_path();
    let server = serve_at(&path);
    let client = connect(&server);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.request(infer(b"x"), Some(LONG)).wait_long());
        let request = next(&server);
        server.close();
        let error = asked.join().unwrap().unwrap_err();
        assert!(matches!(error, ClientError::Lost { .. }), "{error}");
        drop(request);
    });
    drop(server);
    let server = serve_at(&path);
    std::thread::scope(|scope| {
        scope.spawn(|| echo_all(&server));
        let answer = client.request(infer(b"y"), Some(LONG)).wait_long().unwrap();
        assert_eq!(answer.bytes, [&[ANSWER_OK], &b"y"[..]].concat());
        server.close();
    });
}

#[test]
fn a_server_that_restarts_between_two_requests_costs_none() {
    let path = fresh_path();
    let server = serve_at(&path);
    let client = connect(&server);
    drop(server);
    let server = serve_at(&path);
    std::thread::scope(|scope| {
        scope.spawn(|| echo_all(&server));
        client.request(infer(b"y"), Some(LONG)).wait_long().unwrap();
        server.close();
    });
}

#[test]
fn a_server_that_is_not_ready_yet_is_asked_again() {
    let path = fresh_path();
    let server = LocalServer::bind(LocalServerConfig::new(&path, None)).unwrap();
    let client = Client::new(client_config(&path)).unwrap();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.request(infer(b"x"), Some(LONG)).wait_long());
        eventually(|| server.counters().requests_refused.value() > 0);
        server.set_metadata(&[0x80]);
        echo(&next(&server));
        asked.join().unwrap().unwrap();
    });
}

#[test]
fn errors_of_the_policy_arrive_as_such() {
    let server = serve();
    let client = connect(&server);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.request(infer(b"x"), None).wait_long());
        let request = next(&server);
        request
            .reply
            .fail(ErrorCode::BadRequest, "no image")
            .unwrap();
        let failure = Failure::new(ErrorCode::BadRequest, "no image");
        assert_eq!(asked.join().unwrap(), Err(ClientError::Server(failure)));
    });
}

#[test]
fn an_answer_that_is_too_large_is_refused_and_the_next_one_is_found() {
    let server = serve();
    let mut config = client_config(server.path());
    config.answer_bytes = 100_000;
    let client = Client::new(config).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| echo_all(&server));
        let error = client.request(infer(&vec![1; 300_000]), None).wait_long();
        let too_large = matches!(
            error,
            Err(ClientError::AnswerTooLarge { limit: 100_000, .. })
        );
        assert!(too_large, "{error:?}");
        client.request(infer(b"x"), None).wait_long().unwrap();
        server.close();
    });
}

#[test]
fn a_request_that_the_server_refuses_leaves_the_connection() {
    let mut config = LocalServerConfig::new(fresh_path(), vec![0x80]);
    config.limits = ServerLimits::with_message_bytes(1000);
    let server = LocalServer::bind(config).unwrap();
    let client = connect(&server);
    let error = client.request(infer(&vec![1; 300_000]), None).wait_long();
    let ClientError::Server(failure) = error.unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(failure.code, "bad_request");
    std::thread::scope(|scope| {
        scope.spawn(|| echo_all(&server));
        client.request(infer(b"x"), None).wait_long().unwrap();
        server.close();
    });
    assert_eq!(server.counters().connections_accepted.value(), 1);
}

#[test]
fn a_wrong_key_is_final() {
    let mut config = LocalServerConfig::new(fresh_path(), vec![0x80]);
    config.api_keys = vec![ApiKey::new("right").unwrap()];
    let server = LocalServer::bind(config).unwrap();
    let client = Client::new(client_config(server.path())).unwrap();
    let error = client.meet(LONG).wait_long().unwrap_err();
    assert!(
        matches!(error, ClientError::AuthenticationFailed { .. }),
        "{error}"
    );
}

#[test]
fn a_missing_server_is_named_with_what_to_do() {
    let path = fresh_path();
    let mut config = client_config(&path);
    config.connect_timeout = Duration::from_millis(20);
    let client = Client::new(config).unwrap();
    let error = client.request(infer(b"x"), None).wait_long().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("there is no such socket"), "{text}");
    assert!(text.contains("unix_socket_path"), "{text}");
}

#[test]
fn closing_ends_what_is_under_way() {
    let server = serve();
    let client = connect(&server);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.request(infer(b"x"), None).wait_long());
        let request = next(&server);
        client.close();
        let name = client.server().to_owned();
        assert_eq!(
            asked.join().unwrap(),
            Err(ClientError::Closed { server: name })
        );
        eventually(|| request.reply.is_cancelled());
    });
}
