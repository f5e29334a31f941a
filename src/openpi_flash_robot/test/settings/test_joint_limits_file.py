"""joint_limits_file.py: the limits that MoveIt and ros2_control have, and what is refused."""

import math
from pathlib import Path

import pytest

from openpi_flash_robot.run.settings_file import load_settings, robot_settings
from openpi_flash_robot.settings.bounds import Bounds
from openpi_flash_robot.settings.joint_limits_file import limits_from_file, parse_joint_limits
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parse_settings import settings_from_parameters

CONFIG = Path(__file__).parents[4] / "config"
MOVEIT = """
default_velocity_scaling_factor: 0.1
default_acceleration_scaling_factor: 0.1
joint_limits:
  shoulder:
    has_velocity_limits: true
    max_velocity: 0.8
    has_acceleration_limits: true
    max_acceleration: 4
    has_jerk_limits: false
    max_jerk: 1.0
  elbow:
    has_velocity_limits: false
    max_velocity: 0.1
    has_jerk_limits: true
    max_jerk: 200.0
"""
ROS2_CONTROL = """
controller_manager:
  ros__parameters:
    update_rate: 500
    joint_limits:
      shoulder:
        has_position_limits: true
        min_position: -1.0
        max_position: !degrees 90
        has_acceleration_limits: true
        max_acceleration: 4.0
        has_deceleration_limits: true
        max_deceleration: 3.0
        has_effort_limits: true
        max_effort: 20.0
        angle_wraparound: false
"""


def test_a_value_counts_where_its_key_says_so():
    assert parse_joint_limits(MOVEIT, "f") == {
        "shoulder": Bounds(velocity=0.8, acceleration=4.0),
        "elbow": Bounds(jerk=200.0),
    }


def test_a_section_may_stand_below_a_nodes_name_and_angles_may_be_degrees():
    assert parse_joint_limits(ROS2_CONTROL, "f") == {
        "shoulder": Bounds(-1.0, math.pi / 2, acceleration=3.0)
    }


def test_of_two_sections_the_tightest_limit_counts():
    two = "a:\n  joint_limits: {j: {has_velocity_limits: true, max_velocity: 2}}\n" + (
        "b:\n  joint_limits: {j: {has_velocity_limits: true, max_velocity: 1}}\n"
    )
    assert parse_joint_limits(two, "f") == {"j": Bounds(velocity=1.0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "joint_limits_file f is not YAML"),
        ("a: 1", "joint_limits_file f has no joint_limits with joints in it"),
        ("joint_limits: {}", "has no joint_limits with joints in it"),
        ("joint_limits: {j: 3}", "joint_limits.j is 3, expected keys such as has_velocity_limits"),
        (
            "joint_limits: {j: {has_velocity_limits: true}}",
            "joint_limits_file f: joint_limits.j.max_velocity is missing, expected a number",
        ),
        (
            "joint_limits: {j: {has_velocity_limits: true, max_velocity: fast}}",
            "joint_limits_file f: joint_limits.j.max_velocity is 'fast', expected a number",
        ),
        (
            "joint_limits: {j: {has_velocity_limits: true, max_velocity: .nan}}",
            "joint_limits.j.max_velocity is nan, expected a number",
        ),
        (
            "joint_limits: {j: {has_acceleration_limits: true, max_acceleration: 0.0}}",
            "joint_limits.j.max_acceleration is 0, expected 0.01 or more",
        ),
        (
            "joint_limits: {j: {has_jerk_limits: 1, max_jerk: 2.0}}",
            "joint_limits.j.has_jerk_limits is 1, expected true or false",
        ),
        (
            "joint_limits: {j: {has_position_limits: true, min_position: 1, max_position: 1}}",
            "joint_limits.j.min_position is 1, which is not below max_position 1",
        ),
        (
            "joint_limits: {j: {has_velocity_limit: true, max_velocity: 1.0}}",
            "joint_limits.j.has_velocity_limit is not a key of joint limits; "
            "is it has_velocity_limits",
        ),
        ("joint_limits: {j: {}, j: {}}", "j is there twice"),
        ("joint_limits: {j: {max_jerk: !degrees much}}", "!degrees much is no number"),
        ("joint_limits: {j: !!python/object:os.X {}}", "is not YAML"),
    ],
)
def test_what_cannot_be_read_names_file_joint_key_and_value(text, message):
    with pytest.raises(ParameterError) as refused:
        parse_joint_limits(text, "f")
    assert message in str(refused.value)


def test_the_arm_of_droid_has_a_file_of_its_makers_limits():
    settings = load_settings(
        CONFIG / "robots" / "droid_joint_position.yaml",
        server="127.0.0.1",
        joint_limits_file=str(CONFIG / "joint_limits" / "franka_fr3.yaml"),
    )
    player = settings.player
    assert player.position_upper[3] == -0.4461
    assert player.position_lower[5] == 0.8521
    assert player.max_velocity[0] == 0.5  # the robot file's own is tighter
    assert player.max_jerk == (5000.0,) * 7 + (math.inf,)
    assert player.smoothing_ns == 1_600_000  # 2 x 4 / 5000 s


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "joint_limits.yaml"
    path.write_text(MOVEIT)
    return path


def test_without_a_file_there_are_no_bounds_and_one_that_is_missing_is_named(parameters, tmp_path):
    assert limits_from_file(settings_from_parameters(parameters)) == ()
    missing = parameters | {"joint_limits_file": str(tmp_path / "none.yaml")}
    with pytest.raises(ParameterError, match=r"joint_limits_file .*none.yaml cannot be read"):
        limits_from_file(settings_from_parameters(missing))


def test_a_file_of_another_robot_is_refused(parameters, file):
    file.write_text(MOVEIT.replace("shoulder:", "panda_joint1:").replace("elbow:", "j2:"))
    settings = settings_from_parameters(parameters | {"joint_limits_file": str(file)})
    with pytest.raises(ParameterError, match="has limits of j2, panda_joint1, and of none of this"):
        limits_from_file(settings)


def test_a_file_that_leaves_a_joint_no_position_is_refused(parameters, file):
    file.write_text(ROS2_CONTROL.replace("-1.0", "3.0").replace("90", "300"))
    settings = settings_from_parameters(parameters | {"joint_limits_file": str(file)})
    with pytest.raises(ParameterError, match=r"position_lower 3 \(.*joint_limits.yaml\) is not"):
        limits_from_file(settings)


def test_in_plain_python_the_files_limits_count_too(file):
    settings = robot_settings(
        server="127.0.0.1",
        cameras=["scene"],
        camera={"scene": {"key": "observation/image"}},
        joints=["shoulder", "elbow"],
        joint_limits_file=str(file),
        max_velocity=[1.0],
        max_jerk=[300.0],
    )
    assert settings.player.max_velocity == (0.8, 1.0)
    assert settings.player.max_acceleration == (4.0, 5.0)
    assert settings.player.max_jerk == (300.0, 200.0)
