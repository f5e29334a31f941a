"""config/robots over real topics: commands arrive, limits hold, and a killed node leaves a robot
that stands.

One file for each way to command: joint trajectories, velocities, a twist with a gripper's action,
a base.
"""

import logging

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from extra_ros_packages import extra_environment, use_extra_packages
from robot_files import FOLDER, NAMES, parameters_of
from robot_on_ros import driving

from sim_robot.ros_domain import reserved_ros_domain

pytestmark = [
    # rclpy imports a message's type support on first use, and that a parser that warns
    pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning"),
    pytest.mark.timeout(400),  # the first test builds packages
]

log = logging.getLogger(__name__)
STANDS_AFTER_S = 0.5


@pytest.fixture(scope="module")
def extra():
    """The environment of a node on a robot with control_msgs and nav_msgs."""
    use_extra_packages()
    return extra_environment()


def limits_of(settings, controller):
    """Highest velocity and acceleration, lowest and highest position, each [M]."""
    player, columns = settings.player, list(controller.columns)
    return [
        np.array(limit)[columns]
        for limit in (
            player.max_velocity,
            player.max_acceleration,
            player.position_lower,
            player.position_upper,
        )
    ]


def assert_trajectories_keep_to_the_limits(drive):
    for controller in drive.settings.controllers:
        velocity, acceleration, lower, upper = limits_of(drive.settings, controller)
        for names, motion in drive.robot.trajectories[controller.name]:
            assert names == list(controller.sent_names)
            assert (np.abs(motion.velocities) <= velocity * 1.01).all()
            assert (motion.positions >= lower - 1e-6).all()
            assert (motion.positions <= upper + 1e-6).all()
            seconds = np.diff(motion.times_ns)[:, None] / 1e9
            assert (
                np.abs(np.diff(motion.velocities, axis=0)) <= acceleration * seconds * 1.05 + 1e-9
            ).all()
            assert not motion.velocities[-1].any()


def assert_velocities_keep_to_the_limits(drive):
    for controller in drive.settings.controllers:
        said = drive.robot.said[controller.name]
        if said:
            velocity, *_ = limits_of(drive.settings, controller)
            numbers = np.array([numbers for _, numbers in said])
            assert (np.abs(numbers) <= velocity * 1.01).all(), np.abs(numbers).max(axis=0)


def assert_stands_when_held(drive):
    drive.until_fast()
    drive.call("hold")
    held = drive.robot.now
    drive.wait(1.0)
    assert drive.moved_until(held) <= STANDS_AFTER_S
    assert not drive.robot.velocities.any()


def assert_stands_without_the_node(drive):
    gone = drive.kill(until=drive.until_fast)
    drive.wait(1.5)
    seconds = drive.moved_until(gone)
    log.info(f"stands {seconds:.3f} s after SIGKILL")
    assert 0.0 < seconds <= STANDS_AFTER_S, "0 or less: it did not move when the node was killed"
    assert not drive.robot.velocities.any()


def test_aloha_plays_trajectories_on_four_controllers_and_stands_when_its_node_is_killed(tmp_path):
    with driving("aloha", tmp_path) as drive:
        drive.until_moving()
        drive.wait(2.0)
        assert_trajectories_keep_to_the_limits(drive)
        names = drive.robot.trajectories["right_gripper"][-1][0]
        assert names == ["left_finger"]
        assert_stands_without_the_node(drive)


def test_aloha_stands_after_a_hold(tmp_path):
    with driving("aloha", tmp_path) as drive:
        drive.until_moving()
        assert_stands_when_held(drive)
        assert_trajectories_keep_to_the_limits(drive)


VELOCITY = {
    "controller__arm__kind": "velocity",
    "controller__arm__topic": "/fr3_velocity_controller/commands",
    "unmoved_joints": ["robotiq_85_left_knuckle_joint"],
    # the simulated controller follows no faster than this machine lets it
    "max_tracking_error": [0.0],
}


def test_droid_drives_a_velocity_controller_that_repeats_its_last_command_for_ever(tmp_path):
    with driving("droid", tmp_path, without=("hand",), **VELOCITY) as drive:
        drive.until_moving()
        drive.wait(2.0)
        assert_velocities_keep_to_the_limits(drive)
        assert_stands_without_the_node(drive)


def test_libero_moves_by_twists_and_its_hand_by_goals_that_a_hold_keeps(tmp_path, extra):
    with driving("libero", tmp_path, extra) as drive:
        drive.until_moving()
        drive.until(lambda: len(set(drive.robot.goals)) >= 2, "a hand that opens and closes")
        assert_velocities_keep_to_the_limits(drive)
        assert all(0.0 <= goal <= 0.04 for goal in drive.robot.goals)
        assert_stands_when_held(drive)
        goals = len(drive.robot.goals)
        drive.wait(1.0)
        assert len(drive.robot.goals) == goals
        drive.call("reset")
        assert_stands_without_the_node(drive)


def test_a_base_goes_by_its_odometry_and_stands_when_its_node_is_killed(tmp_path, extra):
    with driving("mobile_base", tmp_path, extra) as drive:
        drive.until_moving()
        drive.wait(2.0)
        assert_velocities_keep_to_the_limits(drive)
        assert_stands_without_the_node(drive)


def test_ros_reads_every_file_as_yaml_does():
    with reserved_ros_domain() as domain:
        for name in NAMES:
            context = rclpy.Context()
            rclpy.init(context=context, domain_id=domain)
            node = rclpy.create_node(
                "reader",
                context=context,
                cli_args=["--ros-args", "--params-file", str(FOLDER / f"{name}.yaml")],
                use_global_arguments=False,
                automatically_declare_parameters_from_overrides=True,
                start_parameter_services=False,
                enable_rosout=False,
            )
            expected = parameters_of(name)
            for key, value in expected.items():
                found = node.get_parameter(key).value
                assert (list(found) if isinstance(value, list) else found) == value, (name, key)
            node.destroy_node()
            rclpy.shutdown(context=context)
