"""follow.py: the commanded motion keeps to the limits whatever it is asked to follow."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played_curves import MS, limits_of, play

from openpi_flash_robot.play.follow import follow
from openpi_flash_robot.play.joint_limits import brake, can_stop
from openpi_flash_robot.play.motion import MotionState

STEP = 40 * MS
LIMITS = limits_of(2)
REST = MotionState.at_rest(np.zeros(2))


def steps(count, step=STEP):
    return np.arange(1, count + 1) * step


def motion_of(points, *, start=REST, step=STEP, limits=LIMITS, first=None):
    points = np.asarray(points, dtype=np.float64)
    times = steps(len(points), step) if first is None else first + np.arange(len(points)) * step
    return follow(start, 0, times, points, smoothing_ns=step, limits=limits)


def ramp(slope, count=25):
    return np.arange(1, count + 1)[:, np.newaxis] * np.asarray(slope)


def test_a_path_within_the_limits_is_kept_to_in_time_from_motion():
    moving = MotionState(np.zeros(2), np.array([0.25, -0.25]))
    motion = motion_of(ramp([0.01, -0.01]), start=moving)
    for index in range(1, 20):
        at = motion.sample(index * STEP).positions
        np.testing.assert_allclose(at, [0.01 * index, -0.01 * index], atol=1e-9)


def test_a_smooth_swing_is_kept_to_within_a_milliradian():
    at = steps(50, 20 * MS) / 1e9
    points = 0.2 * np.sin(2 * at)[:, np.newaxis] * [1.0, 1.0]
    moving = MotionState(np.zeros(2), np.array([0.4, 0.4]))
    motion = motion_of(points, step=20 * MS, start=moving)
    for due, point in zip(steps(45, 20 * MS), points, strict=False):
        np.testing.assert_allclose(motion.sample(int(due)).positions, point, atol=1e-3)


def test_from_rest_it_accelerates_as_the_limit_says_and_ends_at_the_last_point_at_rest():
    motion = motion_of(ramp([0.02, 0.01]))
    played = play(motion)
    velocity, acceleration = played.shares_of(LIMITS)
    assert 0.99 < velocity <= 1.01
    assert 0.9 < acceleration <= 1.05
    np.testing.assert_allclose(motion.positions[-1], [0.5, 0.25], atol=1e-9)
    assert not motion.velocities[-1].any()


def test_where_the_path_does_not_move_nothing_moves():
    motion = motion_of(np.zeros((25, 2)))
    assert len(motion.times_ns) == 1
    np.testing.assert_array_equal(motion.positions[0], np.zeros(2))


def test_a_jump_of_one_joint_slows_all_joints_down_so_that_the_path_is_kept():
    jump = np.where(np.arange(1, 26) > 5, 1.0, 0.0)
    points = np.stack([jump, 0.5 * jump], axis=1)
    played = play(motion_of(points))
    np.testing.assert_allclose(played.positions[:, 1], 0.5 * played.positions[:, 0], atol=1e-6)
    assert played.positions[:, 0].max() > 0.8
    velocity, acceleration = played.shares_of(LIMITS)
    assert velocity <= 1.01
    assert acceleration <= 1.05


def test_a_reversal_in_a_chunk_is_braked_for_in_time_and_never_overshot():
    points = np.concatenate([ramp([0.02, 0.02], 12), 0.24 - ramp([0.02, 0.02], 12)])
    played = play(motion_of(points))
    assert played.positions.max() <= 0.24
    assert max(played.shares_of(LIMITS)) <= 1.0 + 1e-6


def test_a_reversal_at_a_border_overshoots_by_the_braking_distance_alone():
    moving = MotionState(np.zeros(2), np.array([0.5, 0.5]))
    played = play(motion_of(ramp([-0.02, -0.02]), start=moving))
    assert max(played.shares_of(LIMITS)) <= 1.0 + 1e-6
    assert played.positions.max() <= 0.5**2 / (2 * 5.0) * 1.05
    np.testing.assert_allclose(played.positions[-1], [-0.5, -0.5], atol=1e-9)


def test_a_robot_outside_its_position_limits_is_led_back_at_limited_speed():
    outside = MotionState.at_rest(np.array([2.3, -2.3]))
    played = play(motion_of(np.tile([3.0, -3.0], (25, 1)), start=outside))
    assert max(played.shares_of(LIMITS)) <= 1.0 + 1e-6
    assert np.all(np.abs(played.positions) <= 2.3 + 1e-9)
    assert np.all(np.abs(played.positions[-1]) <= 2.0)


def test_joints_without_position_limits_move():
    free = limits_of(2, lower=-np.inf, upper=np.inf)
    motion = motion_of(ramp([0.02, -0.01]), limits=free)
    np.testing.assert_allclose(motion.positions[-1], [0.5, -0.25], atol=1e-9)


def test_a_path_of_one_point_ends_there():
    motion = motion_of([[0.1, -0.1]])
    np.testing.assert_allclose(motion.positions[-1], [0.1, -0.1], atol=1e-9)
    assert max(play(motion).shares_of(LIMITS)) <= 1.0 + 1e-6


@st.composite
def situations(draw):
    """A start within the limits, however reached, and any chunk."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    limits = limits_of(
        3,
        velocity=draw(st.sampled_from([0.1, 0.5, 2.0])),
        acceleration=draw(st.sampled_from([0.5, 5.0, 20.0])),
        lower=-0.6,
        upper=0.6,
    )
    step = draw(st.sampled_from([20, 33, 66])) * MS
    kind = draw(st.sampled_from(["walk", "jump", "noise", "still", "ramp"]))
    count = draw(st.integers(1, 50))
    walk = np.cumsum(rng.normal(scale=0.02, size=(count, 3)), axis=0)
    points = {
        "walk": walk,
        "jump": np.where(np.arange(count)[:, np.newaxis] < count // 2, 0.0, rng.normal(size=3)),
        "noise": rng.normal(scale=1.0, size=(count, 3)),
        "still": np.tile(rng.uniform(-1, 1, 3), (count, 1)),
        "ramp": np.arange(count)[:, np.newaxis] * rng.normal(scale=0.03, size=3),
    }[kind]
    first = draw(st.integers(1, step))
    start = MotionState.at_rest(rng.uniform(-0.6, 0.6, 3))
    if draw(st.booleans()):  # in the middle of another motion
        other = motion_of(rng.normal(scale=0.5, size=(10, 3)), start=start, limits=limits)
        start = other.sample(int(rng.integers(0, other.end_ns + 1)))
    return start, points, step, first, limits


@settings(max_examples=150, deadline=None, derandomize=True)
@given(situation=situations())
def test_for_every_start_and_chunk_the_played_curve_keeps_to_every_limit(situation):
    start, points, step, first, limits = situation
    motion = motion_of(points, start=start, step=step, first=first, limits=limits)
    played = play(motion)
    np.testing.assert_allclose(played.positions[0], start.positions, atol=1e-12)
    np.testing.assert_allclose(played.velocities[0], start.velocities, atol=1e-9)
    velocity, acceleration = played.shares_of(limits)
    assert velocity <= 1.01
    assert acceleration <= 1.05
    assert np.all(np.abs(played.positions) <= 0.6 + 1e-6)
    assert not motion.velocities[-1].any()
    assert np.all(np.isfinite(motion.positions))


def test_a_second_of_motion_of_14_joints_costs_a_small_part_of_a_control_period():
    rng = np.random.default_rng(0)
    points = np.cumsum(rng.normal(scale=0.005, size=(50, 14)), axis=0)
    start = MotionState(np.zeros(14), rng.uniform(-0.3, 0.3, 14))
    costs = []
    for _ in range(20):
        begin = time.process_time()
        motion_of(points, start=start, step=20 * MS, limits=limits_of(14))
        costs.append(time.process_time() - begin)
    assert min(costs) < 0.01


@pytest.mark.parametrize("velocity", [0.1, -0.1])
def test_a_stop_of_the_path_where_the_robot_is_brakes_and_comes_back(velocity):
    moving = MotionState(np.zeros(2), np.full(2, velocity))
    motion = motion_of(np.zeros((10, 2)), start=moving)
    np.testing.assert_allclose(motion.positions[-1], np.zeros(2), atol=1e-9)
    assert max(play(motion).shares_of(LIMITS)) <= 1.0 + 1e-6


def test_joints_without_position_limits_brake_also_beside_joints_at_rest():
    free = limits_of(2, lower=-np.inf, upper=np.inf)
    motion = brake(MotionState(np.zeros(2), np.array([0.5, 0.0])), 0, 0, free)
    np.testing.assert_allclose(motion.positions[-1], [0.025, 0.0])
    assert np.isfinite(motion.positions).all()


@pytest.mark.parametrize(
    ("position", "velocity", "lower", "upper", "stops"),
    [
        (0.9, 0.9, -1.0, 1.0, True),  # 0.081 rad at 5 rad/s^2
        (0.93, 0.9, -1.0, 1.0, False),
        (0.93, -0.9, -1.0, 1.0, True),
        (-0.93, -0.9, -1.0, 1.0, False),
        (1.2, 0.0, -1.0, 1.0, True),  # at rest, beyond its end
        (1.2, 0.1, -1.0, 1.0, False),
        (0.0, 0.0, -np.inf, np.inf, True),
        (0.0, 99.0, -np.inf, np.inf, True),
    ],
)
def test_a_joint_can_stop_where_its_braking_way_ends_before_its_limit(
    position, velocity, lower, upper, stops
):
    state = MotionState(np.array([0.0, position]), np.array([0.0, velocity]))
    assert can_stop(state, limits_of(2, lower=lower, upper=upper)) is stops
