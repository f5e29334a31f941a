"""Any client of a policy server: `submit`, futures, and what gives way to what."""

import asyncio
import concurrent.futures
import random
import threading

import numpy as np
import pytest
from contract_handlers import Held, echo
from quic_peers import LONG, eventually, thread_results

from flash_transport import Disconnected, InferenceFuture, Superseded, packb


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
