"""splice/: chunks on the clock, how they are joined, and what a request says of the running one."""

import numpy as np
import pytest

from openpi_flash_robot.play.joint_limits import JointLimits
from openpi_flash_robot.play.motion import Motion, rest
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.play.splice.border import Border
from openpi_flash_robot.play.splice.ensemble import ensemble
from openpi_flash_robot.play.splice.fade import faded
from openpi_flash_robot.play.splice.methods import CHUNK_METHODS
from openpi_flash_robot.play.splice.open_loop import played_out_ns
from openpi_flash_robot.play.splice.rtc import continuation
from openpi_flash_robot.play.splice.timed_chunk import TimedChunk

MS = 1_000_000
STEP = 40 * MS


def ramp(start=0, *, offset=0.0, steps=10):
    """One joint that moves by 0.1 per step."""
    actions = offset + 0.1 * np.arange(steps, dtype=np.float64)[:, np.newaxis]
    return TimedChunk(actions, start, STEP)


def moments(*milliseconds):
    return np.array(milliseconds, dtype=np.int64) * MS


def test_a_chunk_is_its_steps_and_straight_lines_between_them():
    values = ramp().at(moments(0, 20, 40, 100, 360))[:, 0]
    np.testing.assert_allclose(values, [0.0, 0.05, 0.1, 0.25, 0.9])


def test_before_and_after_a_chunk_its_ends_are_all_there_is():
    chunk = ramp(start=100 * MS)
    assert chunk.covers(moments(99, 100, 460, 461)).tolist() == [False, True, True, False]
    np.testing.assert_allclose(chunk.at(moments(0, 900))[:, 0], [0.0, 0.9])


def test_a_chunk_of_one_step_is_that_step():
    chunk = TimedChunk(np.array([[3.0]]), 0, STEP)
    assert chunk.at(moments(0, 70)).tolist() == [[3.0], [3.0]]


def test_a_fade_begins_with_what_was_before_and_leaves_nothing_of_it():
    due = moments(0, 50, 100, 150)
    result = faded(rest(np.array([1.0]), 0), 0, due, np.zeros((4, 1)), 100 * MS)
    np.testing.assert_allclose(result[:, 0], [1.0, 0.5, 0.0, 0.0])
    np.testing.assert_array_equal(
        faded(rest(np.array([1.0]), 0), 0, due, np.zeros((4, 1)), 0), np.zeros((4, 1))
    )


def test_an_ensemble_is_the_mean_of_the_chunks_that_say_something_of_a_moment():
    old, new = ramp(offset=1.0), ramp(start=200 * MS, offset=0.0)
    due = moments(200, 360, 400)
    mean = ensemble([old, new], due, 0.0)[:, 0]
    np.testing.assert_allclose(mean, [(1.5 + 0.0) / 2, (1.9 + 0.4) / 2, 0.5])


@pytest.mark.parametrize(("decay", "newest"), [(0.0, 0.5), (1.0, 0.2689), (-1.0, 0.7311)])
def test_the_decay_says_which_chunk_weighs_most(decay, newest):
    old = TimedChunk(np.zeros((10, 1)), 0, STEP)
    new = TimedChunk(np.ones((10, 1)), 0, STEP)
    mean = ensemble([old, new], moments(100), decay)[0, 0]
    assert mean == pytest.approx(newest, abs=1e-4)


def test_a_chunk_that_has_ended_does_not_push_the_others_down():
    """ACT counts the predictions that there are of a moment, not the chunks."""
    gone = TimedChunk(np.full((2, 1), 9.0), 0, STEP)
    old = TimedChunk(np.zeros((20, 1)), 0, STEP)
    new = TimedChunk(np.ones((20, 1)), 0, STEP)
    expected = ensemble([old, new], moments(400), 0.7)
    np.testing.assert_allclose(ensemble([gone, old, new], moments(400), 0.7), expected)


def test_a_request_says_what_is_left_of_the_running_chunk_at_the_new_ones_steps():
    found = continuation(ramp(), 130 * MS, 130 * MS + 90 * MS, 5)
    # 130 ms is step 3.25; steps 3.25, 4.25, ... 8.25 are left
    np.testing.assert_allclose(found.previous_actions[:, 0], 0.325 + 0.1 * np.arange(6))
    assert (found.delay, found.execution_horizon) == (3, 5)


def test_no_more_steps_are_frozen_than_are_left():
    found = continuation(ramp(), 300 * MS, 900 * MS, 5)
    assert found.delay == len(found.previous_actions) == 2


def test_of_a_chunk_that_has_ended_nothing_is_left():
    assert continuation(ramp(), 361 * MS, 400 * MS, 5) is None


def border(own, due_ns, joined=None):
    """A chunk of one joint."""
    return Border(due_ns, own, (), joined, 0.0)


@pytest.mark.parametrize(
    ("method", "both"),
    [
        ("latest", 1.0),
        ("latest_only", 1.0),
        ("weighted_average", 0.7),
        ("average", 0.5),
        ("conservative", 0.3),
    ],
)
def test_lerobots_aggregates_weigh_the_new_chunk_where_both_cover_and_take_it_behind(method, both):
    old = TimedChunk(np.zeros((5, 1)), 0, STEP)  # until 160 ms
    steps = CHUNK_METHODS[method].join(border(np.ones((4, 1)), moments(80, 120, 160, 200), old))
    np.testing.assert_allclose(steps[:, 0], [both, both, both, 1.0])


def test_an_aggregate_of_a_first_chunk_is_the_chunk():
    own = np.array([[1.0], [2.0]])
    assert CHUNK_METHODS["average"].join(border(own, moments(40, 80))) is own


@pytest.mark.parametrize(("steps", "ends_at"), [(1, 40), (5, 200), (0, 1_840), (1_000, 1_840)])
def test_a_chunk_is_played_out_to_its_horizon_but_not_until_it_brakes(steps, ends_at):
    due_ns = np.arange(1, 51) * STEP  # until 2 s
    fastest = Motion(moments(0, 40, 80), np.zeros((3, 1)), np.array([[0.0], [0.6], [0.0]]))
    plan = Plan(fastest, due_ns, STEP, 0, 1, 0, 1, 0)
    limits = JointLimits(*(np.array([value]) for value in (-1.0, 1.0, 1.0, 0.6 * 1.1 / 0.12)))
    assert played_out_ns(plan, steps, limits) == pytest.approx(ends_at * MS, abs=1)
