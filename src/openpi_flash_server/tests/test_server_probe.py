"""probe/ and contract/: what is sent, what is counted, and when; no server and no real time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_transport import Disconnected, InferenceFuture, Superseded, Timeout
from flash_transport.stats import CallStats
from openpi_flash_models.robots import ROBOTS
from openpi_flash_server.contract.example import example_observation
from openpi_flash_server.contract.inputs import parse_inputs
from openpi_flash_server.probe.answer_check import problem_of
from openpi_flash_server.probe.calls import Calls, call
from openpi_flash_server.probe.load_run import run_rate
from openpi_flash_server.probe.load_schedule import due_times
from openpi_flash_server.probe.load_tally import Outcome
from openpi_flash_server.probe.observation import (
    NoObservationError,
    arrays_of,
    observation_for,
)
from openpi_flash_server.probe.spread import spread_of

# percentiles


def test_a_percentile_is_a_value_that_occurred():
    spread = spread_of([3.0, 1.0, 2.0, 100.0])
    assert (spread.min, spread.p50, spread.p90, spread.p99, spread.max) == (1, 2, 100, 100, 100)
    assert spread_of(range(1, 101)).p99 == 99
    assert spread_of([]) is None


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_rise(values):
    spread = spread_of(values)
    assert spread.min <= spread.p50 <= spread.p90 <= spread.p99 <= spread.max
    assert {spread.p50, spread.p90, spread.p99} <= set(values)


# the observation


@pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
def test_what_a_server_says_that_it_reads_is_an_observation_that_the_robot_reads(robot):
    metadata = {"inputs": [entry.as_metadata() for entry in robot.inputs], "robot": "unknown here"}
    observation = observation_for(metadata, prompt="wave")
    robot.read_images(observation)
    robot.read_state(observation)
    assert observation["prompt"] == "wave"
    assert parse_inputs(metadata["inputs"]) == robot.inputs, "nothing is lost on the way"


def test_rotations_of_an_example_are_rotations():
    inputs = parse_inputs(
        [
            {"path": ["q"], "kind": "pose", "shape": [7], "rotation": "quat_xyzw"},
            {"path": ["r"], "kind": "pose", "shape": [9], "rotation": "rot6d"},
            {"path": ["v"], "kind": "pose", "shape": [6], "rotation": "rotvec"},
        ]
    )
    observation = example_observation(inputs, "")
    assert observation["q"].tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert observation["r"].tolist() == [0, 0, 0, 1, 0, 0, 0, 1, 0]
    assert not observation["v"].any()


def test_without_inputs_the_robot_decides_and_without_a_robot_nothing_is_sent():
    assert set(observation_for({"robot": "droid"})) == set(observation_for({}, robot="droid"))
    assert observation_for({"robot": "null"}, prompt="x") == {"prompt": "x"}
    with pytest.raises(NoObservationError, match="name a robot with --robot"):
        observation_for({})
    with pytest.raises(NoObservationError, match="add it with --robot-file"):
        observation_for({"robot": "nobodys"})
    with pytest.raises(NoObservationError, match="metadata: input x: kind is 'smell'"):
        observation_for({"inputs": [{"path": ["x"], "kind": "smell"}]})


def test_a_server_that_takes_a_seed_gets_one():
    assert observation_for({"robot": "droid", "supports": ["seed"]})["seed"] == 0
    assert "seed" not in observation_for({"robot": "droid", "supports": ["rtc"]})


def test_a_planner_gets_a_task_even_where_the_policy_reads_none():
    metadata = {"inputs": [], "supports": ["subtask"]}
    assert observation_for(metadata, prompt="fold") == {"prompt": "fold"}


def test_arrays_are_named_by_their_keys():
    observation = {"images": {"top": np.zeros(2)}, "state": np.zeros(3), "prompt": "x"}
    assert [name for name, _ in arrays_of(observation)] == ["images/top", "state"]


# answers


@pytest.mark.parametrize(
    ("answer", "metadata", "problem"),
    [
        ({"actions": np.zeros((4, 2))}, {}, ""),
        ({"actions": np.zeros((4, 2))}, {"action_horizon": 4, "action_dim": 2}, ""),
        ({"actions": np.zeros((4, 2))}, {"action_horizon": 5}, "the metadata's action_horizon is"),
        ({"actions": np.zeros((4, 2))}, {"action_dim": 3}, "actions are [4, 2], the metadata's"),
        ({"actions": np.full((4, 2), np.nan)}, {}, "not finite"),
        ({"actions": np.zeros(4)}, {}, "no actions [horizon, action_dim]"),
        ({}, {}, "no actions"),
        (
            {"actions": np.zeros((4, 2)), "subtask": {"text": "", "error": {"message": "lost"}}},
            {},
            "the planner failed: lost",
        ),
    ],
)
def test_a_chunk_is_checked_against_the_metadata(answer, metadata, problem):
    found = problem_of(answer, metadata, expects_actions=True)
    assert problem in found
    assert bool(problem) == bool(found)


def test_a_subtask_needs_no_actions():
    assert problem_of({"subtask": {"text": "grasp"}}, {}, expects_actions=False) == ""
    assert "no subtask" in problem_of({}, {}, expects_actions=False)


# calls


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class ScriptedClient:
    """Answers or raises what a list says, and takes 10 ms for each."""

    def __init__(self, clock, script):
        self.clock = clock
        self.script = iter(script)

    def infer_with_stats(self, observation, timeout):
        self.clock.now += 0.010
        step = next(self.script)
        if isinstance(step, BaseException):
            raise step
        return step, CallStats(0.1, 9.0, 1000, 200, 0)


def timed(**server_timing):
    return {"actions": np.zeros((1, 1)), "server_timing": server_timing}


def calls_of(script, **options):
    clock = Clock()
    client = ScriptedClient(clock, script)
    options = {"count": len(script), "timeout": 1.0, "problem_of": lambda answer: "", **options}
    calls = Calls()
    call(client, {}, calls, clock=clock, **options)
    return calls


def test_the_time_that_the_server_does_not_account_for_is_the_networks():
    calls = calls_of([timed(decode_ms=1.0, queue_ms=2.0, infer_ms=4.0)] * 3)
    spreads = calls.spreads()
    assert spreads["total"].p50 == pytest.approx(10)
    assert spreads["network"].p50 == pytest.approx(3)
    assert list(spreads) == ["total", "network", "decode", "queue", "infer"]
    assert (calls.bytes_up, calls.bytes_down) == (1000, 200)


def test_openpis_server_says_less_and_its_calls_are_timed_all_the_same():
    spreads = calls_of([timed(infer_ms=4.0)] * 2).spreads()
    assert list(spreads) == ["total", "infer"]
    assert calls_of([{}]).spreads().keys() == {"total"}


def test_a_failed_call_is_kept_and_the_next_one_made():
    calls = calls_of(
        [Timeout("no answer"), timed(), {"wrong": 1}],
        problem_of=lambda answer: "wrong" if "wrong" in answer else "",
    )
    assert calls.failures == ["Timeout: no answer", "wrong"]
    assert (len(calls.total_ms), calls.count) == (1, 3)


def test_ctrl_c_ends_the_calls_and_keeps_what_was_measured():
    calls = calls_of([timed(), KeyboardInterrupt(), timed()])
    assert calls.interrupted
    assert calls.count == 1


# load


def test_every_client_sends_at_its_rate_and_they_are_spread_over_a_period():
    times = list(due_times(clients=2, rate_hz=10, seconds=0.3))
    assert [number for _, number in times] == [0, 1] * 3
    assert [due for due, _ in times] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25])


@given(st.integers(1, 20), st.floats(0.1, 200), st.floats(0.1, 5))
def test_as_many_requests_are_due_as_the_rate_says(clients, rate, seconds):
    times = list(due_times(clients, rate, seconds))
    assert abs(len(times) - clients * rate * seconds) <= 1
    assert all(due < seconds for due, _ in times)
    assert sorted(times) == times


class SubmittingClient:
    """Ends each request as `fate` says, after `takes` s, in the test's own time."""

    def __init__(self, clock, fate, takes=0.020):
        self.clock = clock
        self.fate = fate
        self.takes = takes
        self.sent_at = []

    def submit(self, observation, timeout):
        self.sent_at.append(self.clock.now)
        future = InferenceFuture()
        fate = self.fate(len(self.sent_at))
        if isinstance(fate, BaseException) and not isinstance(fate, Exception):
            raise fate
        self.clock.now += self.takes
        if isinstance(fate, Exception):
            future._fail(fate)
        else:
            future._deliver(fate, None)
        return future


def load(fate, *, clients=1, rate_hz=10.0, seconds=1.0, takes=0.020, problem=""):
    clock = Clock()
    made = [SubmittingClient(clock, fate, takes) for _ in range(clients)]
    row, interrupted = run_rate(
        made,
        {},
        rate_hz=rate_hz,
        seconds=seconds,
        timeout=1.0,
        problem_of=lambda answer: problem,
        clock=clock,
        sleep=clock.sleep,
    )
    return made, row, interrupted


def test_latency_counts_from_when_a_request_was_due():
    (client,), row, _ = load(lambda number: {})
    assert client.sent_at == pytest.approx([0.1 * k for k in range(10)])
    assert row.counts[Outcome.ANSWERED] == row.sent == 10
    assert row.latency_ms.p50 == pytest.approx(20)
    assert row.late_ms == pytest.approx(0)
    # each send takes longer than a period: the machine falls behind, and does not hide it
    _, behind, _ = load(lambda number: {}, takes=0.150)
    assert behind.latency_ms.max == pytest.approx(9 * 50 + 150)
    assert behind.late_ms == pytest.approx(8 * 50)


def test_each_end_of_a_request_is_counted_once():
    ends = [{}, Superseded("newer"), Timeout("late"), Disconnected("gone"), Disconnected("gone")]
    _, row, interrupted = load(lambda number: ends[number - 1], seconds=0.5)
    assert not interrupted
    assert {str(outcome): row.counts[outcome] for outcome in Outcome} == {
        "answered": 1,
        "superseded": 1,
        "timeout": 1,
        "failed": 2,
    }
    assert row.errors == {"Disconnected: gone": 2}
    assert row.has_errors
    assert row.answered_per_s == 2


def test_a_wrong_answer_is_a_failure_and_superseded_requests_are_none():
    _, row, _ = load(lambda number: {}, problem="actions are short")
    assert row.errors == {"actions are short": 10}
    _, row, _ = load(lambda number: Superseded("newer"))
    assert not row.has_errors
    assert row.latency_ms is None
    assert row.as_json()["latency_ms"] is None


def test_ctrl_c_ends_the_sending_and_the_row_is_of_the_time_until_then():
    _, row, interrupted = load(lambda number: KeyboardInterrupt() if number == 4 else {})
    assert interrupted
    assert row.sent == 3
    assert row.seconds == pytest.approx(0.3)
