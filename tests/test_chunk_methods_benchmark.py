"""How smooth the chunk methods are, by the sweep's own runs: seeded, and in virtual time."""

import sys
from pathlib import Path

import numpy as np
import pytest

from openpi_flash_models.actions.rtc import RtcControls
from openpi_flash_robot.play.splice.methods import CHUNK_METHODS

FOLDER = Path(__file__).parents[1] / "benchmarks" / "chunk_methods"


@pytest.fixture(scope="module", autouse=True)
def on_the_path():
    folders = [str(FOLDER), str(FOLDER.parent)]
    sys.path[:0] = folders
    yield
    for folder in folders:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def rms_jerk():
    """Function of a row of the tables and a delay to the RMS jerk, m/s^3."""
    from motion_measures import derivatives
    from sweep import ARMS, case_of
    from virtual_play import play

    arms = {arm.name: arm for arm in ARMS}

    def measured(name, latency_ms, jitter_ms=0.0, *, has_obstacles=False):
        case = case_of(arms[name], latency_ms, jitter_ms, has_obstacles=has_obstacles, seconds=12.0)
        _, jerk = derivatives(play(case))
        return float(np.sqrt(np.mean(np.square(jerk))))

    return measured


def test_every_method_has_a_row():
    from sweep import ARMS

    assert {arm.method for arm in ARMS} - {"stop-and-go"} == set(CHUNK_METHODS)


@pytest.mark.parametrize(
    ("name", "latency_ms", "jitter_ms", "has_obstacles"),
    [
        ("rtc", 0, 0, False),
        ("rtc", 120, 0, True),
        ("rtc", 320, 0, False),
        ("rtc", 120, 60, False),
        ("rtc_prefix", 0, 0, True),
        ("rtc_prefix", 320, 0, True),
        ("temporal_ensemble, every 5 steps", 0, 0, False),
        ("temporal_ensemble, every 5 steps", 120, 0, False),
    ],
)
def test_a_method_that_goes_on_is_three_times_smoother_than_stops_between_chunks(
    rms_jerk, name, latency_ms, jitter_ms, has_obstacles
):
    stops = rms_jerk("stop-and-go", latency_ms, jitter_ms, has_obstacles=has_obstacles)
    assert rms_jerk(name, latency_ms, jitter_ms, has_obstacles=has_obstacles) <= stops / 3


def test_an_ensemble_of_two_ways_is_no_smoother_than_stops(rms_jerk):
    """What docs/chunk-methods.md warns of."""
    stops = rms_jerk("stop-and-go", 120, has_obstacles=True)
    assert rms_jerk("temporal_ensemble", 120, has_obstacles=True) > stops / 1.5


def test_the_stand_in_of_a_policy_keeps_known_steps_and_is_guided_to_others():
    from chunk_policy import ChunkPolicy, Course

    policy, state = ChunkPolicy(3, Course()), np.array([0.4, 0.0])
    before = policy.chunk(0, state)
    free = policy.chunk(1, state)
    known = policy.chunk(1, state, RtcControls(before, 4, 10, is_prefix=True))
    np.testing.assert_allclose(known[:4], before[:4], atol=1e-9)
    guided = policy.chunk(1, state, RtcControls(before, 4, 10))
    ahead = slice(4, 8)
    for closer in (known, guided):
        off = np.abs(closer[ahead] - before[ahead]).mean()
        assert off < 0.5 * np.abs(free[ahead] - before[ahead]).mean()


def test_without_a_previous_chunk_both_ways_are_taken_and_nothing_between():
    from chunk_policy import FIRST_OBSTACLE, SIDE, SPEED, STEP_S, ChunkPolicy, Course

    policy, state = ChunkPolicy(0, Course()), np.array([FIRST_OBSTACLE - 0.3, 0.0])
    there = round(0.3 / SPEED / STEP_S)
    sides = np.array([policy.chunk(number, state)[there, 1] for number in range(40)])
    assert np.all(np.abs(np.abs(sides) - SIDE) < 0.2 * SIDE)
    assert 8 < np.sum(sides > 0) < 32
