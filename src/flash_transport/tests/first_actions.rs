//! First actions ahead of the whole answer, over both transports.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use flash_transport::codec::{ArrayValue, Value};
use flash_transport::link::hello::Hello;
use flash_transport::link::queue::Next;
use flash_transport::link::request::{ReplyError, Request};
use flash_transport::link::wire::{ErrorCode, ANSWER_OK};
use flash_transport::quic::client::{Client, ClientConfig, ClientError, Interest, Mail, Outcome};
use flash_transport::quic::server::Server;
use support::{eventually, infer, next, server_config, Serves, ANY_SERVER, LONG};

/// A map with so many steps of one number each.
fn part(steps: usize) -> Vec<u8> {
    let actions = Value::Array(ArrayValue {
        dtype: "<f8".to_owned(),
        shape: vec![steps, 1],
        data: vec![0; 8 * steps],
    });
    Value::Map(vec![("actions".into(), actions)])
        .encode()
        .unwrap()
}

fn whole() -> Vec<u8> {
    [&[ANSWER_OK], &part(5)[..]].concat()
}

fn connect(host: &str, port: u16) -> Client {
    let mut config = ClientConfig::new(host, port, ANY_SERVER);
    config.hello = Hello {
        session: Some("arm".into()),
        ..Hello::default()
    };
    let client = Client::new(config).unwrap();
    client.meet(LONG).wait_long().unwrap();
    client
}

/// Ask for the first two steps.
fn submit(client: &Client) -> Interest {
    let message = infer(b"x").asking_first(2);
    client.submit(message, Some(LONG), "arm".into(), 7).unwrap()
}

fn first_of(client: &Client) -> Vec<u8> {
    match client.mailbox().next(LONG) {
        Mail::First(7, map) => map.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn outcome_of(client: &Client) -> Outcome {
    match client.mailbox().next(LONG) {
        Mail::Outcome(7, outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

/// Run a test over QUIC, and on a unix socket.
fn over_both(test: impl Fn(&dyn Serves, &Client)) {
    let server = Server::bind(server_config()).unwrap();
    let client = connect("127.0.0.1", server.address().port());
    test(&server, &client);
    #[cfg(unix)]
    {
        use flash_transport::local::server::{LocalServer, LocalServerConfig};

        let path = support::fresh_path();
        let server = LocalServer::bind(LocalServerConfig::new(&path, vec![0x80])).unwrap();
        let client = connect(&format!("unix:{}", path.display()), 0);
        test(&server, &client);
    }
}

fn take(server: &dyn Serves) -> Request {
    match server.next_within(LONG) {
        Next::Request(request) => request,
        other => panic!("no request came: {other:?}"),
    }
}

#[test]
fn first_actions_arrive_before_the_policy_has_the_rest() {
    over_both(|server, client| {
        let _interest = submit(client);
        let request = take(server);
        request.reply.first_actions(part(2)).unwrap();
        assert_eq!(first_of(client), part(2));
        // The policy is still busy.
        request.reply.answer(whole()).unwrap();
        let answer = outcome_of(client).unwrap();
        assert_eq!(answer.bytes, whole());
        assert_eq!(answer.bytes_down(), whole().len() + part(2).len());
        assert_eq!(answer.first.unwrap().bytes, part(2).len());
        assert!(answer.until_first_action() <= answer.round_trip);
    });
}

#[test]
fn an_answer_without_first_actions_is_as_good() {
    over_both(|server, client| {
        let _interest = submit(client);
        take(server).reply.answer(whole()).unwrap();
        let answer = outcome_of(client).unwrap();
        assert_eq!(answer.first, None);
        assert_eq!(answer.until_first_action(), answer.round_trip);
    });
}

#[test]
fn an_error_may_follow_first_actions() {
    over_both(|server, client| {
        let _interest = submit(client);
        let request = take(server);
        request.reply.first_actions(part(2)).unwrap();
        request.reply.fail(ErrorCode::Internal, "no more").unwrap();
        assert_eq!(first_of(client), part(2));
        let Err(ClientError::Server(failure)) = outcome_of(client) else {
            panic!("no failure");
        };
        assert_eq!(failure.message, "no more");
    });
}

#[test]
fn a_request_whose_first_actions_have_come_is_not_repeated() {
    over_both(|server, client| {
        let _interest = submit(client);
        let request = take(server);
        request.reply.first_actions(part(2)).unwrap();
        request.reply.fail(ErrorCode::NotReady, "later").unwrap();
        first_of(client);
        assert!(matches!(outcome_of(client), Err(ClientError::Server(_))));
    });
}

#[test]
fn first_actions_are_sent_once_and_not_after_the_answer() {
    over_both(|server, client| {
        let _interest = submit(client);
        let request = take(server);
        request.reply.first_actions(part(2)).unwrap();
        let again = request.reply.first_actions(part(2));
        assert_eq!(again, Err(ReplyError::HasFirst));
        request.reply.answer(whole()).unwrap();
        let late = request.reply.first_actions(part(2));
        assert_eq!(late, Err(ReplyError::Answered));
        first_of(client);
        assert_eq!(outcome_of(client).unwrap().bytes, whole());
    });
}

#[test]
fn first_actions_with_other_steps_end_the_request() {
    over_both(|server, client| {
        let _interest = submit(client);
        let request = take(server);
        request.reply.first_actions(part(3)).unwrap();
        let Err(ClientError::BadAnswer { reason, .. }) = outcome_of(client) else {
            panic!("no bad answer");
        };
        assert!(reason.contains("expected [2, action_dim]"), "{reason}");
        let _ = request.reply.answer(whole());
    });
}

#[test]
fn first_actions_that_nobody_asked_for_are_no_answer() {
    over_both(|server, client| {
        let pending = client.request(infer(b"x"), Some(LONG));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || pending.wait_long());
            let request = take(server);
            request.reply.first_actions(part(2)).unwrap();
            request.reply.answer(whole()).unwrap();
            let error = waiting.join().unwrap().unwrap_err();
            assert!(matches!(error, ClientError::BadAnswer { .. }), "{error}");
        });
    });
}

#[test]
fn a_client_that_cancels_between_the_two_is_noticed() {
    over_both(|server, client| {
        let interest = submit(client);
        let request = take(server);
        request.reply.first_actions(part(2)).unwrap();
        first_of(client);
        drop(interest);
        eventually(|| request.reply.is_cancelled());
        request.reply.answer(whole()).unwrap();
    });
}

#[test]
fn a_server_that_is_closed_between_the_two_leaves_the_request_unfinished() {
    let server = Server::bind(server_config()).unwrap();
    let client = connect("127.0.0.1", server.address().port());
    let _interest = submit(&client);
    let request = next(&server);
    request.reply.first_actions(part(2)).unwrap();
    first_of(&client);
    server.close();
    let Err(ClientError::Lost { reason, .. }) = outcome_of(&client) else {
        panic!("not lost");
    };
    assert!(reason.contains("before it had answered"), "{reason}");
}

/// A server of a unix socket that answers the next request with these messages, whatever they are.
#[cfg(unix)]
fn answer_rudely(listener: &std::os::unix::net::UnixListener, messages: &[Vec<u8>]) {
    use std::io::{Read, Write};

    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 15]).unwrap();
    let hello = [vec![ANSWER_OK, 0x80]];
    for messages in [&hello[..], messages] {
        let mut head = [0; 8];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_le_bytes(head[..4].try_into().unwrap());
        stream.read_exact(&mut vec![0; length as usize]).unwrap();
        for message in messages {
            let length = u32::try_from(message.len()).unwrap().to_le_bytes();
            let frame = [&length, &head[4..], message].concat();
            if stream.write_all(&frame).is_err() {
                return; // the client has left: it need not stay for what nobody waits for
            }
        }
    }
    // Until the client has left.
    let _ = stream.read_to_end(&mut Vec::new());
}

#[cfg(unix)]
#[test]
fn a_local_server_that_breaks_the_rules_gets_an_error_of_the_request() {
    let first = |map: &[u8]| [&[0x02], map].concat();
    for (messages, is_passed_on) in [
        (vec![first(&part(2)), first(&part(2)), whole()], true),
        (vec![first(&part(3)), whole()], false),
        (vec![first(b""), whole()], false),
        (vec![first(&[part(2), vec![0x80]].concat()), whole()], false),
    ] {
        let path = support::fresh_path();
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| answer_rudely(&listener, &messages));
            let client = connect(&format!("unix:{}", path.display()), 0);
            let _interest = submit(&client);
            if is_passed_on {
                assert_eq!(first_of(&client), part(2));
            }
            let error = outcome_of(&client).unwrap_err();
            assert!(matches!(error, ClientError::BadAnswer { .. }), "{error}");
        });
    }
}

#[cfg(unix)]
#[test]
fn first_actions_after_the_answer_are_nobodys() {
    let path = support::fresh_path();
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let messages = [whole(), [&[0x02], &part(2)[..]].concat()];
    std::thread::scope(|scope| {
        scope.spawn(|| answer_rudely(&listener, &messages));
        let client = connect(&format!("unix:{}", path.display()), 0);
        let _interest = submit(&client);
        assert_eq!(outcome_of(&client).unwrap().bytes, whole());
        client.close();
        assert!(matches!(client.mailbox().next(LONG), Mail::Over));
    });
}
