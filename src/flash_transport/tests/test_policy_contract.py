"""What every client of a policy server promises, on every transport that there is."""

import asyncio
import concurrent.futures
import contextlib
import copy
import random
import threading

import numpy as np
import pytest
from policy_contract import TRANSPORTS
from quic_peers import LONG, eventually, in_threads, thread_results

from flash_transport import (
    AuthenticationFailed,
    CallStats,
    CodecError,
    Disconnected,
    InferenceFuture,
    Policy,
    ServerError,
    Superseded,
    Timeout,
    packb,
)

SHORT = 0.15
"""Seconds in which something does not happen."""

HORIZON = 4
CHUNKS = {"action_horizon": HORIZON, "supports": ["deadline_ms"]}


@pytest.fixture(params=TRANSPORTS, ids=lambda transport: transport.name)
def transport(request):
    return request.param


@pytest.fixture
def serving(transport):
    """`serving(handle, metadata)` is an endpoint until the test ends."""
    with contextlib.ExitStack() as stack:

        def serve(handle, metadata=None, address=None, api_keys=()):
            address = transport.free_address() if address is None else address
            endpoint = transport.serve(handle, metadata or {}, address, list(api_keys))
            return stack.enter_context(endpoint)

        yield serve


def observation(prompt="fold the towel"):
    return {
        "image": np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3),
        "state": np.arange(7, dtype=np.float32),
        "prompt": prompt,
    }


def same(one, other):
    return packb(one) == packb(other)


def echo(request):
    request.respond({"echo": request.observation})


class Held:
    """A handler that answers when it is told to."""

    def __init__(self):
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)

    def wait_for(self, count):
        eventually(lambda: len(self.requests) >= count)
        return self.requests[count - 1]


def failing(code, message="because"):
    return lambda request: request.fail(code, message)


# --- infer ---


def test_the_answer_is_what_the_server_sent_and_the_observation_stays_as_it_was(serving):
    asked = observation()
    before = copy.deepcopy(asked)
    with serving(echo, CHUNKS).connect() as policy:
        assert isinstance(policy, Policy)
        for timeout in (None, LONG):
            answer = policy.infer(asked, timeout=timeout)
            answer["echo"].pop("deadline_ms", None)
            assert same(answer, {"echo": before})
        assert same(asked, before)
        assert not answer["echo"]["image"].flags.writeable


def test_the_metadata_is_known(serving):
    with serving(echo, {"model": "pi05"}).connect() as policy:
        assert policy.get_server_metadata() == {"model": "pi05"}


def test_a_call_can_say_what_it_cost(serving, transport):
    with serving(echo).connect() as policy:
        asked = observation()
        answer, stats = policy.infer_with_stats(asked, timeout=LONG)
        assert same(answer, {"echo": asked})
        assert isinstance(stats, CallStats)
        assert stats.bytes_up == len(packb(asked)) + transport.overhead
        assert stats.bytes_down == len(packb(answer)) + transport.overhead
        assert 0 < stats.serialize_ms < LONG * 1000
        assert 0 < stats.round_trip_ms < LONG * 1000
        assert stats.connect_attempts == 0
        with pytest.raises(AttributeError):
            stats.bytes_up = 0


def test_threads_share_a_client_without_mixing_their_answers(serving):
    with serving(echo).connect() as policy:

        def ask(number):
            for turn in range(3):
                asked = {"number": number, "turn": turn}
                if policy.infer(asked, timeout=LONG) != {"echo": asked}:
                    return False
            return True

        calls = (lambda number=number: ask(number) for number in range(6))
        assert in_threads(*calls) == [True] * 6


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_time_that_is_none_is_refused(serving, timeout):
    with serving(echo).connect() as policy:
        for call in (policy.infer, policy.submit, policy.infer_with_stats):
            with pytest.raises(ValueError, match="timeout must be a number of seconds from 0 up"):
                call({}, timeout=timeout)


def test_a_reset_does_no_harm(serving):
    with serving(echo).connect() as policy:
        policy.reset()
        assert policy.infer({"a": 1}, timeout=LONG) == {"echo": {"a": 1}}


# --- errors ---

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
        future = policy.submit({}, timeout=SHORT)
        for ask in (lambda: policy.infer({}, timeout=SHORT), lambda: future.result(LONG)):
            with pytest.raises(ServerError, match="not_ready: loading weights"):
                ask()


def test_without_a_timeout_a_server_has_the_time_of_a_connection_to_get_ready(serving):
    endpoint = serving(failing("not_ready", "loading weights"))
    with (
        endpoint.connect(connect_timeout=1.0) as policy,
        pytest.raises(ServerError, match="not_ready: loading weights"),
    ):
        policy.infer({})


# --- keys ---

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


# --- deadlines ---


def deadlines_of(serving, metadata, *asked):
    seen = []

    def take(request):
        seen.append(request.observation.get("deadline_ms"))
        request.respond({})

    with serving(take, metadata).connect() as policy:
        # a request that leaves before the server has spoken does not know what it reads
        policy.get_server_metadata()
        for observation, timeout in asked:
            policy.infer(observation, timeout=timeout)
            policy.submit(observation, timeout=timeout).result(LONG)
    return seen


def test_a_server_that_reads_deadlines_is_told_what_time_is_left(serving):
    first, second = deadlines_of(serving, CHUNKS, ({}, LONG))
    assert 0 < first <= LONG * 1000
    assert 0 < second <= LONG * 1000


def test_other_servers_get_what_the_caller_gave(serving):
    own = ({"deadline_ms": 7.0}, LONG)
    assert deadlines_of(serving, CHUNKS, ({}, None), own) == [None, None, 7.0, 7.0]
    assert deadlines_of(serving, {}, ({}, LONG), own) == [None, None, 7.0, 7.0]
    assert deadlines_of(serving, {"supports": ["rtc"]}, ({}, LONG)) == [None, None]


# --- submit ---


def test_a_future_has_the_answer_and_says_what_it_cost(serving, transport):
    with serving(echo).connect() as policy:
        future = policy.submit({"a": 1}, timeout=LONG)
        assert isinstance(future, InferenceFuture)
        assert isinstance(future, concurrent.futures.Future)
        assert future.result(LONG) == {"echo": {"a": 1}}
        assert future.exception() is None
        assert future.done()
        assert not future.cancel()
        stats = future.stats
        assert stats.bytes_up == len(packb({"a": 1})) + transport.overhead
        assert stats.bytes_down == len(packb({"echo": {"a": 1}})) + transport.overhead
        assert stats.serialize_ms > 0
        assert stats.round_trip_ms > 0


def test_a_future_whose_answer_is_not_there_says_so(serving):
    held = Held()
    with serving(held).connect() as policy:
        future = policy.submit({})
        request = held.wait_for(1)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0)
        assert not future.done()
        assert future.stats is None
        request.respond({"late": True})
        # the wait of one thread ends no request
        assert future.result(LONG) == {"late": True}


def test_callbacks_run_when_the_answer_comes(serving):
    held = Held()
    with serving(held).connect() as policy:
        future = policy.submit({})
        called = []
        future.add_done_callback(called.append)
        assert called == []
        held.wait_for(1).respond({})
        eventually(lambda: called == [future])
        done, _ = concurrent.futures.wait([future], LONG)
        assert done == {future}


def test_a_coroutine_can_wait_for_an_answer(serving):
    with serving(echo).connect() as policy:

        async def ask():
            return await asyncio.wrap_future(policy.submit({"a": 1}, timeout=LONG))

        assert asyncio.run(ask()) == {"echo": {"a": 1}}


def test_an_observation_may_change_once_it_is_submitted(serving):
    image = np.zeros(100_000, np.uint8)
    with serving(echo).connect() as policy:
        future = policy.submit({"image": image}, timeout=LONG)
        image[:] = 255
        assert not future.result(LONG)["echo"]["image"].any()


def test_no_thread_is_made_for_each_call(serving):
    with serving(echo).connect() as policy:
        policy.submit({}).result(LONG)
        before = threading.active_count()
        for number in range(5):
            assert policy.submit({"n": number}).result(LONG) == {"echo": {"n": number}}
        assert threading.active_count() == before


def test_a_cancelled_future_is_told_to_the_server_and_stays_cancelled(serving):
    held = Held()
    with serving(held).connect() as policy:
        future = policy.submit({})
        request = held.wait_for(1)
        called = []
        future.add_done_callback(called.append)
        assert future.cancel()
        assert future.cancel()
        assert future.cancelled()
        assert called == [future]
        assert concurrent.futures.wait([future], LONG).done == {future}
        with pytest.raises(concurrent.futures.CancelledError):
            future.result()
        eventually(lambda: request.cancelled)
        request.respond({"late": True})
        following = policy.submit({"n": 2}, timeout=LONG)
        held.wait_for(2).respond({"n": 2})
        assert following.result(LONG) == {"n": 2}
        assert future.cancelled()


def test_every_future_ends_once_whoever_is_first(serving):
    chance = random.Random(7)
    ends = []
    with serving(echo).connect() as policy:
        futures = []
        for number in range(200):
            future = policy.submit({"n": number, "session": str(number)}, timeout=LONG)
            future.add_done_callback(ends.append)
            futures.append(future)
            if chance.random() < 0.5:
                chance.choice(futures[-5:]).cancel()
        done, pending = concurrent.futures.wait(futures, LONG)
        assert not pending
        assert done == set(futures)
        for number, future in enumerate(futures):
            if not future.cancelled():
                assert future.result()["echo"]["n"] == number
        eventually(lambda: len(ends) == 200)
        assert policy.infer({"n": 1}, timeout=LONG) == {"echo": {"n": 1}}
    assert len(set(ends)) == 200


def test_a_newer_observation_takes_the_place_of_one_that_waits(serving):
    ready = threading.Event()
    asked = []

    def warm_up(request):
        asked.append(request.observation["n"])
        if ready.is_set():
            request.respond({"n": request.observation["n"]})
        else:
            request.fail("not_ready", "loading weights")

    with serving(warm_up).connect() as policy:
        old = policy.submit({"n": 1}, timeout=LONG)
        eventually(lambda: asked)
        new = policy.submit({"n": 2}, timeout=LONG)
        with pytest.raises(Superseded, match="a newer observation"):
            old.result(LONG)
        ready.set()
        assert new.result(LONG) == {"n": 2}


def test_what_the_policy_works_on_is_answered_although_there_is_something_newer(serving):
    held = Held()
    with serving(held).connect() as policy:
        old = policy.submit({"n": 1}, timeout=LONG)
        request = held.wait_for(1)
        new = policy.submit({"n": 2}, timeout=LONG)
        request.respond({"n": 1})
        assert old.result(LONG) == {"n": 1}
        held.wait_for(2).respond({"n": 2})
        assert new.result(LONG) == {"n": 2}


def test_closing_ends_what_is_under_way(serving):
    held = Held()
    endpoint = serving(held)
    policy = endpoint.connect()
    future = policy.submit({})
    held.wait_for(1)
    policy.close()
    with pytest.raises(Disconnected, match="closed"):
        future.result(LONG)
    policy.close()
    assert "closed" in repr(policy)
    for call in (policy.infer, policy.infer_with_stats, policy.submit):
        with pytest.raises(Disconnected, match="is closed"):
            call({})


def test_closing_ends_the_waits_of_other_threads(serving):
    held = Held()
    policy = serving(held).connect()
    with thread_results(lambda: policy.infer({})) as results:
        held.wait_for(1)
        policy.close()
    assert isinstance(results[0], Disconnected)


# --- reconnecting ---


def test_a_server_restarted_between_requests_costs_at_most_one(serving, transport):
    address = transport.free_address()
    endpoint = serving(echo, address=address)
    with endpoint.connect() as policy:
        policy.infer({}, timeout=LONG)
        endpoint.stop()
        serving(lambda request: request.respond({"again": True}), {"model": "new"}, address)
        answers = []
        while not answers:
            with contextlib.suppress(Disconnected):
                answers.append(policy.infer_with_stats({}, timeout=LONG))
        answer, stats = answers[0]
        assert answer == {"again": True}
        assert stats.connect_attempts >= 1
        assert policy.get_server_metadata() == {"model": "new"}
        assert policy.submit({}, timeout=LONG).result(LONG) == {"again": True}


def test_a_server_that_is_gone_takes_no_longer_than_a_request_may(serving):
    endpoint = serving(echo)
    with endpoint.connect() as policy:
        endpoint.stop()
        future = policy.submit({}, timeout=SHORT)
        for ask in (lambda: future.result(LONG), lambda: policy.infer({}, timeout=SHORT)):
            with pytest.raises((Disconnected, Timeout)):
                ask()


# --- open loop ---


class Chunks:
    """A policy that answers with numbered chunks."""

    def __init__(self):
        self.asked = []

    def __call__(self, request):
        self.asked.append(request.observation)
        number = len(self.asked)
        actions = np.arange(HORIZON * 2, dtype=np.float32).reshape(HORIZON, 2) + 100 * number
        request.respond({"actions": actions, "chunk": number})


def test_whole_chunks_are_the_default(serving):
    with serving(Chunks(), CHUNKS).connect() as policy:
        assert policy.infer({}, timeout=LONG)["actions"].shape == (HORIZON, 2)


def test_an_open_loop_asks_once_for_several_steps(serving):
    chunks = Chunks()
    with serving(chunks, CHUNKS).connect(open_loop_horizon=3) as policy:
        answers = [policy.infer({}, timeout=LONG) for _ in range(4)]
        assert [answer["actions"].tolist() for answer in answers] == [
            [100, 101],
            [102, 103],
            [104, 105],
            [200, 201],
        ]
        assert [answer["chunk"] for answer in answers] == [1, 1, 1, 2]
        assert len(chunks.asked) == 2


def test_steps_of_an_open_loop_cost_nothing_and_come_by_every_way(serving):
    with serving(Chunks(), CHUNKS).connect(open_loop_horizon=4) as policy:
        first = policy.submit({}, timeout=LONG)
        assert first.result(LONG)["actions"].tolist() == [100, 101]
        assert first.stats.bytes_up > 0
        answer, stats = policy.infer_with_stats({}, timeout=LONG)
        assert answer["actions"].tolist() == [102, 103]
        assert stats == CallStats(0.0, 0.0, 0, 0, 0)
        third = policy.submit({})
        assert third.done()
        assert third.result()["actions"].tolist() == [104, 105]
        assert policy.infer({})["actions"].tolist() == [106, 107]


def test_a_reset_forgets_the_chunk(serving):
    chunks = Chunks()
    with serving(chunks, CHUNKS).connect(open_loop_horizon=HORIZON) as policy:
        policy.infer({}, timeout=LONG)
        policy.reset()
        assert policy.infer({}, timeout=LONG)["chunk"] >= 2


def test_the_environment_sets_the_horizon_and_the_program_has_the_last_word(serving, monkeypatch):
    monkeypatch.setenv("OPENPI_OPEN_LOOP_HORIZON", "2")
    endpoint = serving(Chunks(), CHUNKS)
    with endpoint.connect() as policy:
        assert policy.infer({}, timeout=LONG)["actions"].shape == (2,)
    with endpoint.connect(open_loop_horizon=0) as policy:
        assert policy.infer({}, timeout=LONG)["actions"].shape == (HORIZON, 2)


def test_a_horizon_that_is_no_number_is_refused_before_connecting(serving, monkeypatch):
    endpoint = serving(Chunks(), CHUNKS)
    endpoint.stop()
    with pytest.raises(ValueError, match="open_loop_horizon must be a whole number of steps"):
        endpoint.connect(open_loop_horizon=-1)
    monkeypatch.setenv("OPENPI_OPEN_LOOP_HORIZON", "many")
    with pytest.raises(ValueError, match="OPENPI_OPEN_LOOP_HORIZON must be .* got 'many'"):
        endpoint.connect()
