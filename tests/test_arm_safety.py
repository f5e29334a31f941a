"""What moves near a person: each fault by the simulated arm, figures from its controller.

The node is a process, the arm's controller keeps to the rules of ros2_control's joint trajectory
controller, and every figure is read from the controller's reference, 500 times a second.
"""

from __future__ import annotations

import itertools
import logging
import re
import signal

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from arm_rig import ACCELERATION, PARAMETERS, VELOCITY, rig, swing

from openpi_flash_msgs.msg import PolicyStatus
from sim_robot.robot import HOME, JOINTS

# rclpy imports a message's type support on first use, and that a parser that warns
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")


log = logging.getLogger(__name__)

JERK = 100.0
"""rad/s^3, of the tests that limit it: motions are averaged over 0.1 s."""


DEFAULT_LEAD = 0.04
"""Of min_lead_time, s."""


def skip_if_late(made, begin, end=np.inf, *, seconds=PARAMETERS["min_lead_time"]):
    """What is promised is promised of commands that come in time."""
    latest = latest_command(made, begin, end)
    if latest > seconds:
        pytest.skip(f"this machine delivered a command {latest:.3f} s late")


def latest_command(made, begin, end=np.inf):
    """How late a command came at most, s."""
    return max(late for at, late in made.arm.lateness if begin <= at <= end)


def assert_within_limits(made, begin, end=np.inf):
    skip_if_late(made, begin, end)
    _, _, velocities, accelerations = made.reference(begin, end)
    assert np.abs(velocities).max() <= 1.01 * VELOCITY
    assert np.abs(accelerations).max() <= 1.05 * ACCELERATION


def way(made, begin, joint=0):
    """How far the controller's reference goes from a moment on, and for how long it moves."""
    times, positions, velocities, _ = made.reference(begin)
    moving = times[:-1][np.abs(velocities[:, joint]) > 1e-6]
    seconds = moving[-1] - begin if len(moving) else 0.0
    return float(np.ptp(positions[:, joint])), float(seconds)


@pytest.fixture
def moving(tmp_path):
    """A rig whose arm moves at full speed."""
    with rig(tmp_path, swing()) as made:
        made.node = made.start_node()
        made.until_moving()
        yield made


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_arm_whose_node_is_gone_stands_within_half_a_second_and_a_tenth_of_a_radian(
    tmp_path, number
):
    with rig(tmp_path, swing()) as made:
        node = made.start_node(min_lead_time=DEFAULT_LEAD)
        made.until_moving()
        assert_stands_without(made, node, number)


def assert_stands_without(moving, node, number):
    node.send_signal(number)
    gone = moving.now
    moving.wait(1.5)
    skip_if_late(moving, gone - 2.0, gone, seconds=DEFAULT_LEAD)
    late = latest_command(moving, gone - 2.0, gone)
    distance, seconds = way(moving, gone)
    log.info(f"{number.name}: {distance:.3f} rad in {seconds:.3f} s, commands {late:.3f} s late")
    # a node whose commands come late leads by so much more
    assert 0.01 < distance <= 0.1 + VELOCITY * late
    assert seconds <= 0.5


def test_after_a_stopped_node_goes_on_nothing_jumps_and_the_arm_moves_again(moving):
    moving.node.send_signal(signal.SIGSTOP)
    stopped = moving.now
    moving.wait(2.0)
    moving.node.send_signal(signal.SIGCONT)
    moving.until_status(PolicyStatus.HOLDING, "nothing could be commanded for", since=stopped)
    moving.until_moving()
    moving.wait(0.5)
    assert_within_limits(moving, stopped)


def test_blind_cameras_stop_the_arm_in_half_a_second_and_a_braking_way(moving):
    moving.arm.blind = {"wrist"}
    blind = moving.now
    at, _ = moving.until_status(PolicyStatus.HOLDING, "camera wrist", since=blind)
    assert at - blind <= 0.5 + 0.15
    moving.until_standing()
    distance, seconds = way(moving, blind)
    log.info(f"blind: {distance:.3f} rad in {seconds:.3f} s")
    assert distance <= VELOCITY * (0.5 + 0.15) + VELOCITY**2 / (2 * ACCELERATION)
    assert seconds <= 0.85
    assert_within_limits(moving, blind)
    moving.arm.blind = set()
    moving.until_moving()
    assert_within_limits(moving, blind)


def test_an_arm_that_does_not_follow_is_named_within_a_third_of_a_second_and_released_softly(
    moving,
):
    moving.arm.brakes = True
    stuck = moving.now
    at, status = moving.until_status(PolicyStatus.HOLDING, "does not follow", since=stuck)
    log.info(f"brakes: HOLDING after {at - stuck:.3f} s: {status.message}")
    if at - stuck > 0.3:
        skip_if_late(moving, stuck, at, seconds=0.04)
    assert at - stuck <= 0.3
    assert re.match(r"joint shoulder_pan does not follow: it is 0\.[01]", status.message)
    moving.until_standing()
    moving.wait(2.0)
    released = moving.now
    moving.arm.brakes = False
    moving.wait(1.0)
    _, positions, velocities, _ = moving.measured(released)
    log.info(f"released: {np.abs(velocities).max():.3f} rad/s, {np.ptp(positions[:, 0]):.4f} rad")
    assert np.abs(velocities).max() <= VELOCITY
    assert np.ptp(positions[:, 0]) <= 0.02
    answered = moving.server.answered
    moving.wait(1.0)
    assert moving.server.answered <= answered + 1  # a person decides when it goes on
    moving.call("reset")
    moving.until_moving()
    moving.wait(0.5)
    assert_within_limits(moving, stuck)
    _, _, velocities, _ = moving.measured(released)
    assert np.abs(velocities).max() <= 1.1 * VELOCITY


def jumping(state):
    """Every chunk wants one joint a radian away, now here and now there."""
    jumping.side = -getattr(jumping, "side", 1.0)
    actions = np.tile(np.asarray(HOME), (50, 1))
    actions[:, 0] = jumping.side * 0.5
    return actions.astype(np.float32)


def reversing(state):
    """Every chunk turns back at full speed, in its middle too."""
    reversing.side = -getattr(reversing, "side", 1.0)
    actions = np.tile(np.asarray(HOME), (50, 1))
    there = np.concatenate([np.arange(1, 11), np.arange(9, -31, -1)])
    actions[:, 0] = state[0] + reversing.side * VELOCITY * 0.04 * there
    return actions.astype(np.float32)


@pytest.mark.parametrize("policy", [jumping, reversing])
def test_jumps_reversals_start_and_hold_keep_to_the_limits(tmp_path, policy):
    with rig(tmp_path, policy) as made:
        made.start_node(max_start_delta=[2.0])
        made.until_moving(speed=0.9 * VELOCITY)
        made.wait(4.0)
        made.call("hold")
        made.until_standing()
        made.call("reset")
        made.until_moving(speed=0.9 * VELOCITY)
        made.wait(1.0)
        _, _, velocities, accelerations = made.reference(0.0)
        log.info(
            f"{policy.__name__}: {np.abs(velocities).max() / VELOCITY:.4f} of the velocity, "
            f"{np.abs(accelerations).max() / ACCELERATION:.4f} of the acceleration"
        )
        assert_within_limits(made, 0.0)
        assert np.abs(velocities).max() >= 0.9 * VELOCITY


@pytest.mark.parametrize("policy", [jumping, reversing])
def test_with_a_limit_of_the_jerk_the_controller_keeps_to_it_too(tmp_path, policy):
    with rig(tmp_path, policy) as made:
        made.start_node(max_start_delta=[2.0], max_jerk=[JERK])
        made.until_moving(speed=0.9 * VELOCITY)
        made.wait(4.0)
        made.call("hold")
        made.until_standing()
        made.call("reset")
        made.until_moving(speed=0.9 * VELOCITY)
        made.wait(1.0)
        end = made.now
        assert_within_limits(made, 0.0, end)
        times, _, _, accelerations = made.reference(0.0, end)
        jerks = np.diff(accelerations, axis=0) / np.diff(times)[2:, np.newaxis]
        log.info(f"{policy.__name__}: {np.abs(jerks).max() / JERK:.4f} of the jerk")
        assert 0.3 * JERK <= np.abs(jerks).max() <= 1.05 * JERK


def test_with_a_limit_of_the_jerk_an_arm_whose_node_is_gone_stands_as_soon(tmp_path):
    with rig(tmp_path, swing()) as made:
        node = made.start_node(min_lead_time=0.04, max_jerk=[JERK])
        made.until_moving()
        made.wait(0.2)
        assert_stands_without(made, node, signal.SIGKILL)


def test_velocities_are_never_played_as_positions(tmp_path):
    """DROID's policies: seven velocities and a gripper."""
    velocity = {"interface": "velocity", "unit": "rad/s", "reference": "absolute"}
    actions = [{"name": name} | velocity for name in JOINTS]
    with rig(tmp_path, lambda _: np.full((50, 7), 0.3, np.float32), actions=actions) as made:
        made.start_node()
        made.until_status(PolicyStatus.FAULT, "(velocity, rad/s, absolute) is not of kind position")
        made.wait(2.0)
        assert made.server.answered == 0
        assert made.arm.lateness == []  # not one trajectory


def test_a_hold_brakes_ahead_and_never_backwards(moving):
    _, before, _, _ = moving.reference(moving.now - 0.05)
    direction = np.sign(before[-1, 0] - before[0, 0])
    held = moving.now
    moving.call("hold")
    moving.until_standing()
    _, _, velocities, _ = moving.reference(held)
    assert (direction * velocities[:, 0]).min() >= -1e-9
    assert_within_limits(moving, held)


def test_trajectories_that_come_late_do_not_make_the_arm_faster(tmp_path):
    rng = np.random.default_rng(7)
    with rig(tmp_path, swing()) as made:
        made.arm.delays = (float(delay) for delay in rng.uniform(0.0, 0.15, 100_000))
        made.start_node(min_lead_time=0.2)
        begin = made.until_moving()
        made.wait(6.0)
        _, _, velocities, _ = made.reference(begin)
        skip_if_late(made, begin, seconds=0.2)
        log.info(f"late by 0 to 150 ms: {np.abs(velocities).max() / VELOCITY:.3f} of the velocity")
        assert np.abs(velocities).max() <= 1.1 * VELOCITY


def test_a_second_commander_and_no_controller_hold_the_arm(moving):
    topic = "/arm_controller/joint_trajectory"
    other = moving.on_ros(lambda: moving.watcher.create_publisher(type_of_trajectory(), topic, 1))
    since = moving.now
    _, status = moving.until_status(PolicyStatus.HOLDING, "also publishes to", since=since)
    assert status.message.startswith("/watcher also publishes to /arm_controller/joint_trajectory")
    moving.until_standing()
    moving.on_ros(lambda: moving.watcher.destroy_publisher(other))
    moving.until_moving()
    assert_within_limits(moving, since)


def test_an_arm_whose_controller_would_jerk_is_not_moved(tmp_path):
    wrong = {"interpolate_from_desired_state": False}
    with rig(tmp_path, swing(), controller_parameters=wrong) as made:
        made.start_node()
        message = "controller arm_controller (/arm_controller) has interpolate_from_desired_state"
        _, status = made.until_status(PolicyStatus.HOLDING, message)
        assert status.cause == PolicyStatus.CAUSE_COMMANDER
        made.wait(2.0)
        assert made.arm.lateness == []
        assert made.server.answered == 0


def test_an_arm_whose_controller_answers_well_is_moved_without_a_warning(moving):
    assert "arm_controller:" not in moving.log()
    assert "cannot be checked" not in moving.log()
    assert "not checked" not in moving.log()


def type_of_trajectory():
    from trajectory_msgs.msg import JointTrajectory

    return JointTrajectory


def test_two_nodes_never_fight_for_an_arm(tmp_path):
    with rig(tmp_path, swing()) as made:
        made.start_node(name="second_node", autostart=False)
        made.start_node()
        made.until_moving()
        since = made.now
        made.bring_up("second_node")
        for other in ("second_node", "client_node"):  # as the other one of them sees it
            made.until_status(PolicyStatus.HOLDING, f"/openpi/{other} also publishes", since)
        made.until_standing()
        assert_within_limits(made, since)


@pytest.mark.parametrize(("horizon", "rate_hz"), [(10, 15.0), (16, 20.0), (50, 50.0)])
def test_with_default_settings_the_arm_does_not_stop_between_chunks(tmp_path, horizon, rate_hz):
    policy = swing(0.3, bound=10.0, step=1 / rate_hz, horizon=horizon)
    with rig(tmp_path, policy, horizon=horizon, rate_hz=rate_hz, think=0.08) as made:
        made.start_node()
        begin = made.until_moving(speed=0.25)
        made.wait(1.0)
        begin = made.now
        made.wait(5.0)
        _, _, velocities, _ = made.reference(begin)
        stops = [k for k, _ in itertools.groupby(np.abs(velocities[:, 0]) < 0.02) if k]
        log.info(
            f"{horizon} steps at {rate_hz:g} Hz: {len(stops)} stops, "
            f"slowest {np.abs(velocities[:, 0]).min():.3f} rad/s"
        )
        skip_if_late(made, begin, seconds=0.03)  # a machine that has time for a policy too
        assert len(stops) == 0
