"""The demo passes only a run in which everything held, and says what did not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from demo_runs import good_run

from demo.run_data import Episode, JointTrack, State, Status, Subtask
from demo.verdict import Bounds, judge, passed

BOUNDS = Bounds(max_observation_age=0.5, max_chunk_age=2.0)


def failed(run):
    """Return the checks that fail, as {name: "value (bound)"}."""
    return {c.name: f"{c.value} ({c.bound})" for c in judge(run, BOUNDS) if not c.ok}


def shifted(track, seconds):
    return JointTrack(track.times + seconds, track.positions)


def status(state, message=""):
    return Status(3.0, state, False, "quic", "127.0.0.1:5555", 0.0, 0, message)


def test_a_good_run_passes_every_check():
    checks = judge(good_run(), BOUNDS)
    assert failed(good_run()) == {}
    assert passed(checks)
    assert len(checks) == 13


def spoil(change):
    """Return a run in which one thing is not as it should be."""
    return change(good_run())


def with_last(run, name, **changes):
    items = list(getattr(run, name))
    items[-1] = replace(items[-1], **changes)
    return replace(run, **{name: tuple(items)})


SPOILED = {
    "few chunks": (
        lambda run: replace(run, chunks=run.chunks[:7]),
        {"action chunks arrived": "7 (at least 8)"},
    ),
    "a chunk is missing": (
        lambda run: replace(run, chunks=run.chunks[:5] + run.chunks[6:]),
        {"chunks lost or out of order": "1 (0)"},
    ),
    "an old observation was sent": (
        lambda run: with_last(run, "inferences", observation_age=0.61),
        {"oldest observation sent": "0.610 s (at most 0.5 s)"},
    ),
    "an old chunk was executed": (
        lambda run: with_last(run, "chunks", observed=run.chunks[-1].received - 2.5),
        {"oldest chunk executed": "2.500 s (at most 2 s)"},
    ),
    "it held": (
        lambda run: replace(
            run,
            statuses=(
                *run.statuses,
                status(State.HOLDING, "chunk is late"),
                status(State.HOLDING, "chunk is late"),
                status(State.RUNNING),
                status(State.DISCONNECTED, "no server"),
            ),
        ),
        {"left RUNNING": "2 times, first HOLDING at 3.0 s: chunk is late (never)"},
    ),
    "a deadline was missed": (
        lambda run: with_last(run, "inferences", deadline_misses=2),
        {"deadlines missed once running": "2 (0)"},
    ),
    "another transport": (
        lambda run: replace(run, transport="websocket"),
        {"transport": "quic (websocket)"},
    ),
    "no words": (
        lambda run: replace(run, subtasks=(Subtask(0.0, " "),)),
        {"subtask in words": "none (at least one)"},
    ),
    "a blind camera": (
        lambda run: replace(run, images={"scene": 80, "wrist": 0}),
        {"camera images": "scene 80, wrist 0 (some from each)"},
    ),
    "a process that failed": (
        lambda run: replace(run, exit_codes={"node": 0, "robot": 1, "server": 0}),
        {"exit codes": "robot 1 (all 0)"},
    ),
    "no process at all": (
        lambda run: replace(run, exit_codes={}),
        {"exit codes": "none (all 0)"},
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_run_fails_exactly_the_check_that_it_breaks(name):
    change, expected = SPOILED[name]
    run = spoil(change)
    assert failed(run) == expected
    assert not passed(judge(run, BOUNDS))


def judged(*successes):
    """Return a run in which episodes were played, one after the other."""
    episodes = tuple(
        Episode(2.0 * (n + 1), "touch the red cube", n, done, 1.5)
        for n, done in enumerate(successes)
    )
    return replace(
        good_run(), prompt="touch the red cube", is_judged=True, episodes=episodes, subtasks=()
    )


def test_a_trained_policy_has_to_do_what_the_prompt_says():
    (check, *_) = judge(judged(True, False, True), BOUNDS)
    assert str(check) == (
        'ok     "touch the red cube" done: 2 of 3 episodes, in 1.5 s (bound: at least 1)'
    )
    without_planner = replace(judged(False, False), has_planner=False)
    assert failed(without_planner) == {'"touch the red cube" done': "0 of 2 episodes (at least 1)"}


def test_between_episodes_the_node_is_not_active_and_a_subtask_is_only_said_by_a_planner():
    run = replace(
        judged(True),
        has_planner=False,
        statuses=(status(State.RUNNING), status(State.PAUSED, "not active"), status(State.RUNNING)),
    )
    assert failed(run) == {}
    assert "left RUNNING" in failed(replace(run, is_judged=False, episodes=()))
    held = replace(run, statuses=(*run.statuses, status(State.HOLDING, "chunk is late")))
    assert "left RUNNING" in failed(held)
    assert list(failed(replace(run, has_planner=True))) == ["subtask in words"]


def test_an_arm_that_stands_still_has_not_moved():
    run = good_run()
    still = JointTrack(
        run.measured.times, np.tile(run.measured.positions[0], (len(run.measured.times), 1))
    )
    names = failed(replace(run, measured=still))
    assert names["the arm moved"] == "shoulder_pan by 0.00 rad (at least 0.3 rad)"
    assert "measured against the trajectories sent" in names


def test_an_arm_that_lags_its_reference_by_a_twentieth_of_a_second_fails():
    run = good_run()
    names = failed(replace(run, measured=shifted(run.measured, 0.05)))
    assert list(names) == ["measured against the controller's reference"]


def test_an_arm_that_follows_something_else_than_what_was_sent_fails():
    run = good_run()
    other = tuple(replace(t, positions=t.positions + 0.2) for t in run.trajectories)
    assert list(failed(replace(run, trajectories=other))) == [
        "measured against the trajectories sent"
    ]


def test_a_run_in_which_nothing_was_heard_fails_without_an_error():
    nothing = JointTrack(np.zeros(0), np.zeros((0, 7)))
    run = replace(
        good_run(),
        chunks=(),
        trajectories=(),
        inferences=(),
        statuses=(),
        subtasks=(),
        measured=nothing,
        reference=nothing,
        images={},
    )
    assert failed(run) == {
        "action chunks arrived": "0 (at least 8)",
        "the arm moved": "no joint states (at least 0.3 rad)",
        "measured against the controller's reference": "nothing to compare (at most 0.01 rad RMS)",
        "measured against the trajectories sent": "nothing to compare (at most 0.05 rad RMS)",
        "oldest observation sent": "none came (at most 0.5 s)",
        "oldest chunk executed": "none came (at most 2 s)",
        "transport": "none (quic)",
        "subtask in words": "none (at least one)",
        "camera images": "none (some from each)",
    }


def test_a_check_prints_its_number_and_its_bound():
    lines = [str(check) for check in judge(good_run(), BOUNDS)]
    assert lines[0] == "ok     action chunks arrived: 20 (bound: at least 8)"
