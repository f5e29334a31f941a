"""chunk_player.py from rest: where it starts, and when it refuses to. All time is virtual."""

import numpy as np
import pytest
from virtual_player import (
    MS,
    NEAR,
    REST,
    SLOW,
    STEP,
    chunk,
    held_player,
    player,
    ramp,
    running_player,
)

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.play.chunk_player import JOIN_NS
from openpi_flash_robot.play.plan import Plan


def test_before_the_first_chunk_it_holds_and_says_that_it_waits():
    assert player().step(0) == Hold(HoldKind.WAITING, "waiting for the first chunk")
    assert player().motion is None


def test_from_rest_it_starts_at_step_0_however_long_inference_took():
    playing = player(blend_ns=0)
    plan = playing.accept(chunk(), now=200 * MS, measured=REST)
    begin = 200 * MS + JOIN_NS
    assert (plan.first_step, plan.start_ns) == (0, begin + STEP)
    np.testing.assert_array_equal(playing.step(begin).positions, REST)
    # it speeds up from rest, and is then behind the chunk by half of that time
    later = begin + 8 * STEP
    behind = 8 * SLOW - plan.motion.sample(later).positions
    assert np.all(behind > 0)
    assert np.all(behind < 3 * SLOW)


def test_a_controller_that_was_never_commanded_is_given_time_to_come_to_where_the_robot_is():
    playing = player()
    measured = np.array([0.02, -0.03])
    plan = playing.accept(chunk(ramp(start=measured)), now=0, measured=measured)
    assert plan.motion.start_ns == JOIN_NS
    np.testing.assert_array_equal(plan.motion.sample(JOIN_NS).positions, measured)
    assert not plan.motion.sample(JOIN_NS).velocities.any()


def test_from_rest_the_chunk_is_faded_in():
    playing = player(max_velocity=(100.0, 100.0), max_acceleration=(400.0, 400.0))
    measured = np.array([0.2, -0.2])
    plan = playing.accept(chunk(np.tile(REST, (50, 1))), now=0, measured=measured)
    halfway = JOIN_NS + 60 * MS  # 0.6 of 100 ms
    np.testing.assert_allclose(plan.motion.sample(halfway).positions, 0.4 * measured, atol=0.045)
    np.testing.assert_allclose(plan.motion.sample(300 * MS).positions, REST, **NEAR)


def test_a_chunk_that_starts_too_far_from_the_measured_position_is_refused():
    playing = player()
    reason = playing.accept(chunk(ramp(start=np.array([0.0, 0.6]))), now=40 * MS, measured=REST)
    assert reason == Hold(
        HoldKind.START_JUMP,
        "chunk 1 starts 0.620 away from the measured position of elbow, max_start_delta is 0.5",
    )
    assert playing.step(40 * MS) == reason


def test_the_start_is_compared_after_the_position_limits():
    playing = player(position_upper=(0.4, 0.4))
    plan = playing.accept(chunk(np.full((50, 2), 3.0)), now=0, measured=REST)
    assert isinstance(plan, Plan)
    assert plan.motion.positions.max() <= 0.4


@pytest.mark.parametrize("measured", [np.array([0.0, np.nan]), np.zeros(3)])
def test_without_a_known_position_it_does_not_start(measured):
    reason = player().accept(chunk(), now=0, measured=measured)
    assert reason == Hold(HoldKind.OBSERVATION, "the measured joint positions are not known")


def test_a_robot_that_came_to_rest_after_the_observation_skips_only_the_steps_it_moved():
    playing, stood = held_player(300 * MS)
    here = playing.motion.sample(stood).positions
    observed = stood - 105 * MS
    plan = playing.accept(
        chunk(ramp(start=here), observed=observed, sequence=2), now=stood + 100 * MS, measured=here
    )
    assert plan.first_step == 5  # it still moved for 105 ms since the observation
    np.testing.assert_array_equal(plan.motion.sample(stood + 100 * MS).positions, here)


def test_a_robot_at_rest_since_before_the_observation_skips_nothing():
    playing, stood = held_player(300 * MS)
    here = playing.motion.sample(stood).positions
    plan = playing.accept(
        chunk(ramp(start=here), observed=stood, sequence=2), now=stood + 100 * MS, measured=here
    )
    assert plan.first_step == 0


def test_a_plan_that_has_ended_was_at_rest_from_its_end_not_from_when_someone_looked():
    playing = running_player()
    assert isinstance(playing.step(900 * MS), Hold)  # it ended at 500 ms, and braked
    stood = playing.motion.end_ns
    assert 500 * MS < stood < 720 * MS
    here = playing.motion.sample(stood).positions
    plan = playing.accept(
        chunk(ramp(start=here), observed=stood - 30 * MS, sequence=2), now=910 * MS, measured=here
    )
    assert plan.first_step == 1


def test_from_a_hold_it_starts_where_it_was_commanded_to_hold_not_where_it_sags_to():
    playing, stood = held_player(300 * MS)
    here = playing.motion.sample(stood).positions
    sagged = here - 0.05
    plan = playing.accept(
        chunk(ramp(start=here), observed=stood, sequence=2), now=stood + 100 * MS, measured=sagged
    )
    np.testing.assert_array_equal(plan.motion.sample(stood + 100 * MS).positions, here)


def test_a_robot_that_was_moved_by_hand_while_it_held_starts_where_it_is_measured():
    playing, stood = held_player(300 * MS)
    moved = playing.motion.sample(stood).positions + 0.3
    plan = playing.accept(
        chunk(ramp(start=moved), observed=stood, sequence=2), now=stood + 100 * MS, measured=moved
    )
    np.testing.assert_array_equal(plan.motion.sample(stood + 100 * MS).positions, moved)
    assert plan.motion.start_ns == stood + 100 * MS + JOIN_NS


def test_in_a_dry_run_it_always_starts_where_the_robot_is_measured():
    playing = running_player(is_commanded=False)
    playing.hold(Hold(HoldKind.REQUESTED, "held"), 300 * MS)
    plan = playing.accept(chunk(observed=500 * MS, sequence=2), now=600 * MS, measured=REST)
    np.testing.assert_array_equal(plan.motion.sample(600 * MS).positions, REST)


def test_a_gripper_that_holds_something_starts_from_its_command_and_keeps_its_grip():
    """The elbow is a gripper: commanded to close to 1.0, it holds a cube at 0.4."""
    closed = np.array([0.0, 1.0])
    playing = player(max_tracking_error=(0.1, 0.0), max_start_delta=(0.3, 0.3))
    playing.accept(chunk(np.tile([0.0, 0.2], (50, 1))), now=0, measured=np.array([0.0, 0.2]))
    moving = ramp(slope=np.array([0.0, 0.04]), start=np.array([0.0, 0.2]))
    actions = np.minimum(moving, closed)
    playing.accept(chunk(actions, observed=100 * MS, sequence=2), now=200 * MS, measured=REST)
    playing.step(590 * MS)
    playing.hold(Hold(HoldKind.REQUESTED, "held"), 590 * MS)
    held = playing.motion.positions[-1]
    assert held[1] > 0.8
    measured = np.array([0.0, 0.4])
    plan = playing.accept(
        chunk(np.tile(closed, (50, 1)), observed=1_000 * MS, sequence=3),
        now=1_100 * MS,
        measured=measured,
    )
    assert isinstance(plan, Plan)
    assert plan.motion.positions[:, 1].min() >= held[1] - 1e-9


@pytest.mark.parametrize(
    ("changes", "position", "distance"),
    [({}, "commanded", 0.76), ({"is_commanded": False}, "measured", 0.6)],
)
def test_a_gripper_that_would_jump_is_refused_by_the_position_it_is_compared_with(
    changes, position, distance
):
    playing = player(max_tracking_error=(0.1, 0.0), max_start_delta=(0.5, 0.5), **changes)
    closed = np.array([0.0, 0.4])
    playing.accept(chunk(np.tile(closed, (50, 1))), now=0, measured=closed)
    playing.step(990 * MS)
    playing.hold(Hold(HoldKind.REQUESTED, "held"), 990 * MS)
    held = playing.motion.positions[-1, 1]
    measured = np.array([0.0, 0.24])
    actions = np.tile([0.0, -0.36], (50, 1))
    reason = playing.accept(
        chunk(actions, observed=1_500 * MS, sequence=2), now=1_600 * MS, measured=measured
    )
    assert held == pytest.approx(0.4)
    assert reason == Hold(
        HoldKind.START_JUMP,
        f"chunk 2 starts {distance:.3f} away from the {position} position of elbow, "
        "max_start_delta is 0.5",
    )
