"""A server that warms up, and one that drains: nobody is lost, nothing is done twice."""

import threading

import pytest
from quic_peers import LONG, Served, eventually, in_threads, thread_results

from flash_transport import (
    AuthenticationFailed,
    Disconnected,
    FlashTransportPolicy,
    QuicServer,
    ServerError,
)


def test_a_client_that_connects_during_warm_up_gets_through_when_it_is_over():
    with Served(metadata=None) as served:

        def connect_and_ask():
            with FlashTransportPolicy("127.0.0.1", served.port) as policy:
                answer = policy.infer({"x": 1}, timeout=LONG)
                return answer["echo"], policy.get_server_metadata()

        with thread_results(connect_and_ask) as results:
            eventually(lambda: served.server.counters["requests_refused"] >= 1)
            assert results[0] is None
            served.server.set_metadata({"model": "warm"})
        assert results == [({"x": 1}, {"model": "warm"})]
        assert served.server.counters["requests_accepted"] == 1


@pytest.mark.parametrize(
    "call", [lambda policy: policy.infer({}), lambda policy: policy.get_server_metadata()]
)
def test_a_client_whose_time_ends_during_warm_up_is_told_so(call):
    with (
        QuicServer("127.0.0.1", 0) as server,
        pytest.raises(ServerError, match="not_ready: the server warms up"),
        FlashTransportPolicy("127.0.0.1", server.port, connect_timeout=0.5) as policy,
    ):
        call(policy)


def test_a_wrong_key_is_refused_during_warm_up_too():
    with QuicServer("127.0.0.1", 0, api_keys=["right"]) as server:
        with (
            pytest.raises(AuthenticationFailed),
            FlashTransportPolicy("127.0.0.1", server.port, api_key="wrong") as policy,
        ):
            policy.infer({}, timeout=LONG)
        assert server.counters["clients_unauthenticated"] >= 1


def test_new_metadata_is_what_the_next_client_is_told():
    with QuicServer("127.0.0.1", 0, metadata={"model": "old"}) as server:
        server.set_metadata({"model": "new"})
        with FlashTransportPolicy("127.0.0.1", server.port) as policy:
            assert policy.get_server_metadata() == {"model": "new"}


def test_draining_answers_what_was_accepted_and_refuses_what_comes():
    held = []
    with Served(held.append) as served:
        early = FlashTransportPolicy("127.0.0.1", served.port)
        late = FlashTransportPolicy("127.0.0.1", served.port)
        drained = []
        with thread_results(lambda: early.infer({"x": 1}, timeout=LONG)) as answers:
            eventually(lambda: held)
            draining = threading.Thread(target=lambda: drained.append(served.server.drain(LONG)))
            draining.start()
            refused = []

            def is_refused():
                try:
                    late.infer({}, timeout=1.0)
                except (ServerError, Disconnected) as error:
                    refused.append(error)
                return refused

            eventually(is_refused)
            assert drained == []
            held[0].respond({"late": "but there"})
        draining.join(LONG)
        assert drained == [True]
        assert answers == [{"late": "but there"}]
        assert len(held) == 1
        early.close()
        late.close()


def test_draining_hands_out_what_was_accepted_and_waits():
    server = QuicServer("127.0.0.1", 0, metadata={})
    policy = FlashTransportPolicy("127.0.0.1", server.port)
    with thread_results(lambda: policy.infer({"x": 1}, timeout=LONG)) as answers:
        eventually(lambda: server.counters["requests_accepted"] == 1)
        server.stop_accepting()
        with thread_results(lambda: server.drain(LONG)) as drained:
            request = server.next_request(LONG)
            request.respond(request.observation)
    assert (answers, drained) == ([{"x": 1}], [True])
    assert server.next_request() is None
    policy.close()


def test_a_drain_ends_with_its_time_and_says_that_not_all_was_answered():
    held = []
    with Served(held.append) as served:
        policy = FlashTransportPolicy("127.0.0.1", served.port)
        with thread_results(lambda: policy.infer({}, timeout=LONG)) as answers:
            eventually(lambda: held)
            assert served.server.drain(0.05) is False
        assert isinstance(answers[0], Disconnected)
        policy.close()


def test_an_idle_server_is_drained_at_once():
    server = QuicServer("127.0.0.1", 0, metadata={})
    with FlashTransportPolicy("127.0.0.1", server.port):
        assert server.drain(None) is True
    assert server.drain(0) is True


def test_every_request_around_a_drain_is_either_answered_or_was_never_begun():
    begun = []
    begun_lock = threading.Lock()

    def handle(request):
        with begun_lock:
            begun.append(request.observation["id"])
        request.respond({"id": request.observation["id"]})

    with Served(handle) as served:
        policies = [FlashTransportPolicy("127.0.0.1", served.port) for _ in range(4)]
        started = threading.Barrier(5)

        def ask(robot):
            def work():
                outcomes = []
                started.wait(LONG)
                for number in range(1000):
                    name = f"{robot}-{number}"
                    try:
                        answer = policies[robot].infer({"id": name}, timeout=2.0)
                    except (ServerError, Disconnected) as error:
                        outcomes.append((name, str(error)))
                        return outcomes
                    outcomes.append((name, answer["id"]))
                return outcomes

            return work

        def drain():
            started.wait(LONG)
            eventually(lambda: len(begun) > 20)
            return served.server.drain(LONG)

        *outcomes, drained = in_threads(*(ask(robot) for robot in range(4)), drain)
        assert drained is True
        answered = {name for robot in outcomes for name, outcome in robot if name == outcome}
        # what was begun was answered, and once
        assert sorted(begun) == sorted(answered)
        for robot in outcomes:
            name, outcome = robot[-1]
            assert name not in begun, outcome
        for policy in policies:
            policy.close()
