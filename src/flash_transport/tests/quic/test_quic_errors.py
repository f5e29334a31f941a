"""What a client of QUIC gets instead of a result: time is up, the policy fails, newer wins."""

import pytest
from quic_peers import LONG, Served, ServerProcess, eventually, three_cameras

from flash_transport import (
    CodecError,
    Disconnected,
    FlashTransportError,
    FlashTransportPolicy,
    ServerError,
    Superseded,
    Timeout,
)


def test_a_timeout_cancels_the_request_at_the_server():
    requests = []
    with (
        Served(requests.append) as served,
        FlashTransportPolicy("127.0.0.1", served.port) as policy,
    ):
        with pytest.raises(Timeout, match=rf"no answer from 127.0.0.1:{served.port} within 0.2 s"):
            policy.infer(three_cameras(), timeout=0.2)
        eventually(lambda: requests and requests[0].cancelled)
        requests[0].respond({"late": True})
        assert served.server.counters["requests_cancelled"] == 1


def test_a_timeout_of_zero_is_a_timeout_for_python_too():
    held = []
    with (
        Served(held.append) as served,
        FlashTransportPolicy("127.0.0.1", served.port) as policy,
        pytest.raises(TimeoutError),
    ):
        policy.infer({}, timeout=0)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_time_that_is_none_is_refused(timeout):
    with Served() as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        with pytest.raises(ValueError, match="timeout must be a number of seconds from 0 up"):
            policy.infer({}, timeout=timeout)
        with pytest.raises(ValueError, match="timeout must be a number of seconds from 0 up"):
            served.server.next_request(timeout=timeout)


@pytest.mark.parametrize(
    ("code", "exception"),
    [
        ("bad_request", ServerError),
        ("superseded", Superseded),
        ("deadline_exceeded", ServerError),
        ("not_ready", ServerError),
        ("internal", ServerError),
    ],
)
def test_each_error_of_the_policy_reaches_the_caller(code, exception):
    with (
        Served(lambda request: request.fail(code, "because")) as served,
        FlashTransportPolicy("127.0.0.1", served.port) as policy,
    ):
        with pytest.raises(exception, match="because") as raised:
            policy.infer({}, timeout=0.5 if code == "not_ready" else LONG)
        if exception is ServerError:
            assert (raised.value.code, raised.value.message) == (code, "because")


def test_a_request_that_the_policy_forgets_is_answered_all_the_same():
    with (
        Served(lambda request: None) as served,
        FlashTransportPolicy("127.0.0.1", served.port) as policy,
        pytest.raises(ServerError, match="internal: the server dropped this request"),
    ):
        policy.infer({}, timeout=LONG)


def test_a_request_is_answered_once():
    errors = []

    def answer_again(request):
        with pytest.raises(ValueError, match="is no error code, expected one of: bad_request"):
            request.fail("teapot", "")
        with pytest.raises(CodecError):
            request.respond({"x": object()})
        request.respond({"first": True})
        for again in (lambda: request.respond({}), lambda: request.fail("internal", "")):
            with pytest.raises(FlashTransportError, match="request is answered already") as raised:
                again()
            errors.append(raised.value)

    with Served(answer_again) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        assert policy.infer({}, timeout=LONG) == {"first": True}
    assert len(errors) == 2


def test_what_cannot_travel_is_refused_before_it_leaves():
    with Served() as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        with pytest.raises(CodecError):
            policy.infer({"x": object()}, timeout=LONG)
        assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}
        assert served.server.counters["requests_accepted"] == 1


def test_observations_that_pile_up_without_a_connection_give_way_to_the_newest(tmp_path):
    with ServerProcess(certificate_dir=tmp_path) as server:
        policy = FlashTransportPolicy("127.0.0.1", server.port)
        policy.infer({}, timeout=LONG)
    with pytest.raises(Disconnected):
        policy.infer({}, timeout=0.2)
    futures = [policy.submit({"n": number}, timeout=LONG) for number in range(5)]
    for future in futures[:-1]:
        with pytest.raises(Superseded):
            future.result(LONG)
    with ServerProcess(server.port, tmp_path):
        assert futures[-1].result(LONG) == {"n": 4}
        assert futures[-1].stats.connect_attempts >= 1
    policy.close()
