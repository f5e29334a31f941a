"""Any client of a policy server: `infer`, the metadata, what a call costs."""

import copy

import pytest
from contract_handlers import echo, observation
from quic_peers import LONG, in_threads, same

from flash_transport import CallStats, Policy, packb

HORIZON = 4
CHUNKS = {"action_horizon": HORIZON, "supports": ["deadline_ms"]}


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
