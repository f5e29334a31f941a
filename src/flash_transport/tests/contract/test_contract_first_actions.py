"""Any client of a policy server: the first steps of a chunk ahead of the rest."""

import concurrent.futures

import numpy as np
import pytest
from contract_handlers import Held, echo, failing
from quic_peers import LONG, eventually

from flash_transport import Disconnected, ServerError, packb

GIVES = {"supports": ["first_actions"], "action_horizon": 4}
CHUNK = np.arange(8, dtype=np.float32).reshape(4, 2)


@pytest.fixture
def ahead(transport):
    """Skips what first actions do not come ahead over."""
    if not transport.has_first_actions:
        pytest.skip("first actions come with the answer")


def first_steps(count=2):
    return {"actions": CHUNK[:count]}


def connected(serving, handle, metadata=None, **options):
    """A client that knows what the server supports."""
    policy = serving(handle, GIVES if metadata is None else metadata).connect(**options)
    policy.get_server_metadata()
    return policy


@pytest.mark.usefixtures("ahead")
def test_first_actions_come_while_the_policy_computes_the_rest(serving, transport):
    held = Held()
    with connected(serving, held) as policy:
        future = policy.submit({"a": 1}, LONG, first_actions=2)
        request = held.wait_for(1)
        assert request.observation == {"a": 1, "first_actions": 2}
        request.send_first_actions(first_steps())
        assert future.first_actions.result(LONG)["actions"].tolist() == CHUNK[:2].tolist()
        assert not future.done()
        request.respond({"actions": CHUNK})
        assert future.result(LONG)["actions"].tolist() == CHUNK.tolist()
        assert 0 < future.stats.first_action_ms < future.stats.round_trip_ms
        together = len(packb(first_steps())) + len(packb({"actions": CHUNK}))
        assert future.stats.bytes_down == together + transport.overhead


def test_first_actions_of_a_whole_answer_are_its_first_steps(serving):
    held = Held()
    with connected(serving, held) as policy:
        future = policy.submit({}, LONG, first_actions=3)
        held.wait_for(1).respond({"actions": CHUNK, "sequence": 1})
        assert future.result(LONG)["sequence"] == 1
        first = future.first_actions.result(0)
        assert first.keys() == {"actions"}
        assert first["actions"].tolist() == CHUNK[:3].tolist()
        assert future.stats.first_action_ms == future.stats.round_trip_ms


def test_a_server_that_does_not_know_first_actions_is_not_asked_for_them(serving):
    held = Held()
    with connected(serving, held, {"supports": []}) as policy:
        future = policy.submit({"a": 1}, LONG, first_actions=2)
        request = held.wait_for(1)
        assert request.observation == {"a": 1}
        request.respond({"actions": CHUNK})
        assert future.first_actions.result(LONG)["actions"].tolist() == CHUNK[:2].tolist()


def test_a_request_that_does_not_ask_has_no_first_actions(serving):
    with connected(serving, echo) as policy:
        future = policy.submit({"a": 1}, LONG)
        assert future.first_actions is None
        assert future.result(LONG) == {"echo": {"a": 1}}


def test_an_answer_without_actions_has_no_first_ones(serving):
    with connected(serving, lambda request: request.respond({"subtask": "go"})) as policy:
        future = policy.submit({}, LONG, first_actions=2)
        assert future.first_actions.result(LONG) == {}
        assert future.result(LONG) == {"subtask": "go"}


def test_an_error_before_first_actions_is_theirs_too(serving):
    with connected(serving, failing("internal")) as policy:
        future = policy.submit({}, LONG, first_actions=2)
        for one in (future.first_actions, future):
            with pytest.raises(ServerError, match="because"):
                one.result(LONG)


@pytest.mark.usefixtures("ahead")
def test_an_error_after_first_actions_takes_nothing_back(serving):
    held = Held()
    with connected(serving, held) as policy:
        future = policy.submit({}, LONG, first_actions=2)
        request = held.wait_for(1)
        request.send_first_actions(first_steps())
        request.fail("not_ready", "because")
        # it was begun, so it is not sent again
        with pytest.raises(ServerError, match="because"):
            future.result(LONG)
        assert len(future.first_actions.result(0)["actions"]) == 2
        assert len(held.requests) == 1


@pytest.mark.usefixtures("ahead")
def test_first_actions_end_before_the_answer_and_each_once(serving):
    held, ends = Held(), []
    with connected(serving, held) as policy:
        for ahead in (True, False):
            future = policy.submit({}, LONG, first_actions=2)
            future.first_actions.add_done_callback(lambda _: ends.append("first"))
            future.add_done_callback(lambda _: ends.append("whole"))
            request = held.wait_for(1)
            held.requests.clear()
            if ahead:
                request.send_first_actions(first_steps())
            request.respond({"actions": CHUNK})
            future.result(LONG)
            eventually(lambda: "whole" in ends)
            assert ends == ["first", "whole"]
            ends.clear()


def test_cancelling_ends_both(serving):
    held, called = Held(), []
    with connected(serving, held) as policy:
        future = policy.submit({}, first_actions=2)
        future.first_actions.add_done_callback(called.append)
        request = held.wait_for(1)
        assert future.cancel()
        assert called == [future.first_actions]
        assert future.first_actions.cancelled()
        eventually(lambda: request.cancelled)


@pytest.mark.usefixtures("ahead")
def test_what_comes_after_a_cancel_is_nobodys(serving):
    held, called = Held(), []
    with connected(serving, held) as policy:
        future = policy.submit({}, first_actions=2)
        request = held.wait_for(1)
        future.cancel()
        future.first_actions.add_done_callback(called.append)
        request.send_first_actions(first_steps())
        request.respond({"actions": CHUNK})
        following = policy.submit({"n": 2}, LONG, first_actions=1)
        held.wait_for(2).respond({"actions": CHUNK})
        following.result(LONG)
        assert called == [future.first_actions]
        assert future.first_actions.cancelled()


def test_not_waiting_for_first_actions_leaves_the_answer_alone(serving):
    held = Held()
    with connected(serving, held) as policy:
        future = policy.submit({}, LONG, first_actions=2)
        assert future.first_actions.cancel()
        assert concurrent.futures.wait([future.first_actions], LONG).done
        held.wait_for(1).respond({"actions": CHUNK})
        assert len(future.result(LONG)["actions"]) == 4
        assert future.first_actions.cancelled()


def test_closing_ends_both(serving):
    held = Held()
    policy = connected(serving, held)
    future = policy.submit({}, first_actions=2)
    held.wait_for(1)
    policy.close()
    for one in (future.first_actions, future):
        with pytest.raises(Disconnected, match="closed"):
            one.result(LONG)


@pytest.mark.usefixtures("ahead")
def test_an_open_loop_has_its_first_step_early(serving):
    held = Held()
    with connected(serving, held, open_loop_horizon=2) as policy:
        future = policy.submit({}, LONG, first_actions=2)
        request = held.wait_for(1)
        request.send_first_actions(first_steps())
        assert future.first_actions.result(LONG)["actions"].tolist() == CHUNK[0].tolist()
        request.respond({"actions": CHUNK})
        assert future.result(LONG)["actions"].tolist() == CHUNK[0].tolist()
        second = policy.submit({}, LONG, first_actions=2)
        assert second.first_actions.result(0)["actions"].tolist() == CHUNK[1].tolist()
        assert second.result(0)["actions"].tolist() == CHUNK[1].tolist()


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "2", 2**32])
def test_steps_that_are_no_number_are_refused(serving, steps):
    with (
        connected(serving, echo) as policy,
        pytest.raises(ValueError, match="first_actions must be a whole number of steps"),
    ):
        policy.submit({}, first_actions=steps)
