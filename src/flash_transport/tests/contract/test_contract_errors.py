"""Any client of a policy server: what it raises, and when it is let in."""

import pytest
from contract_handlers import SHORT, Held, echo, failing
from quic_peers import LONG, eventually

from flash_transport import AuthenticationFailed, CodecError, ServerError, Superseded, Timeout

ERRORS = [
    ("bad_request", ServerError),
    ("deadline_exceeded", ServerError),
    ("internal", ServerError),
    ("superseded", Superseded),
    ("unauthenticated", AuthenticationFailed),
]


@pytest.mark.parametrize(("code", "exception"), ERRORS)
def test_each_error_of_the_server_has_its_type(serving, code, exception):
    with serving(failing(code)).connect() as policy:
        future = policy.submit({}, timeout=LONG)
        for result in (lambda: policy.infer({}, timeout=LONG), lambda: future.result(LONG)):
            with pytest.raises(exception, match="because") as raised:
                result()
            if exception is ServerError:
                assert (raised.value.code, raised.value.message) == (code, "because")
        assert future.stats is None


def test_what_cannot_travel_is_refused_at_once_and_costs_nothing(serving):
    seen = []

    def take(request):
        seen.append(request.observation)
        request.respond({})

    with serving(take).connect() as policy:
        for call in (policy.infer, policy.infer_with_stats, policy.submit):
            with pytest.raises(CodecError, match="x"):
                call({"x": object()})
        policy.infer({"n": 1}, timeout=LONG)
    assert seen == [{"n": 1}]


def test_a_timeout_is_told_to_the_server(serving):
    held = Held()
    with serving(held).connect() as policy:
        with pytest.raises(Timeout, match=f"within {SHORT} s"):
            policy.infer({}, timeout=SHORT)
        eventually(lambda: held.wait_for(1).cancelled)
        future = policy.submit({}, timeout=SHORT)
        with pytest.raises(Timeout, match=f"within {SHORT} s"):
            future.result(LONG)
        eventually(lambda: held.wait_for(2).cancelled)


def test_a_server_that_gets_ready_in_time_costs_nothing(serving):
    asked = []

    def warm_up(request):
        asked.append(request.observation)
        if len(asked) < 3:
            request.fail("not_ready", "loading weights")
        else:
            request.respond({"ready": True})

    with serving(warm_up).connect() as policy:
        assert policy.infer({"n": 1}, timeout=LONG) == {"ready": True}
        assert asked == [{"n": 1}] * 3


def test_a_server_that_does_not_get_ready_in_time_says_so(serving):
    with serving(failing("not_ready", "loading weights")).connect(connect_timeout=2.0) as policy:
        # time for a first answer, also on a busy machine
        future = policy.submit({}, timeout=1.0)
        for ask in (lambda: policy.infer({}, timeout=1.0), lambda: future.result(LONG)):
            with pytest.raises(ServerError, match="not_ready: loading weights"):
                ask()


@pytest.mark.parametrize(
    "call",
    [
        lambda policy: policy.infer({}, timeout=1.5),
        lambda policy: policy.submit({}, timeout=1.5).result(LONG),
    ],
)
def test_a_server_that_falls_silent_before_it_is_ready_has_said_why(serving, call):
    asked = []

    def not_ready_once(request):
        asked.append(request)
        if len(asked) == 1:
            request.fail("not_ready", "loading weights")

    with (
        serving(not_ready_once).connect() as policy,
        pytest.raises(ServerError, match="not_ready: loading weights"),
    ):
        call(policy)


def test_without_a_timeout_a_server_has_the_time_of_a_connection_to_get_ready(serving):
    endpoint = serving(failing("not_ready", "loading weights"))
    with (
        endpoint.connect(connect_timeout=1.0) as policy,
        pytest.raises(ServerError, match="not_ready: loading weights"),
    ):
        policy.infer({})


FIRST_CALLS = [
    lambda policy: policy.infer({}, timeout=LONG),
    lambda policy: policy.submit({}, timeout=LONG).result(LONG),
    lambda policy: policy.reset(),
    lambda policy: policy.get_server_metadata(),
]


@pytest.mark.parametrize("call", FIRST_CALLS)
@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_wrong_key_is_told_by_the_constructor_or_else_by_the_first_call(serving, call, key):
    held = Held()
    endpoint = serving(held, api_keys=["right"])
    with (
        pytest.raises(AuthenticationFailed, match="refused the api key"),
        endpoint.connect(api_key=key) as policy,
    ):
        call(policy)
    assert held.requests == []


@pytest.mark.parametrize("call", FIRST_CALLS)
def test_a_right_key_lets_in(serving, call):
    with serving(echo, api_keys=["right"]).connect(api_key="right") as policy:
        call(policy)
