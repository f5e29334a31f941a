"""DROID's Franka arm at 15 Hz: the models command joint velocities, or joint positions.

Source: ``openpi/policies/droid_policy.py``. The gripper is a position in both, 0 is open.

The velocities are DROID's own, shares of its greatest step: 1 is 0.2 rad in a step of 1/15 s, so
3 rad/s (``joint_velocity_to_delta`` of ``droid/robot_ik/robot_ik_solver.py``, which scales all
joints down where one of them exceeds 1).
"""

from dataclasses import replace

from openpi_flash_models.robots.action_column import gripper, joint_velocities, joints
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.robot_input import CameraInput, gripper_state, joint_state

_ARM = tuple(f"joint_{i}" for i in range(1, 8))
_GRIPPER = gripper(closed=1.0, open=0.0)

DROID = Robot(
    name="droid",
    cameras=(
        CameraInput(("observation/exterior_image_1_left",), "base_0_rgb"),
        CameraInput(("observation/wrist_image_left",), "left_wrist_0_rgb"),
    ),
    state=(
        joint_state("observation/joint_position", *_ARM),
        gripper_state("observation/gripper_position"),
    ),
    actions=(*joint_velocities(*_ARM, unit="1"), _GRIPPER),
    control_hz=15.0,
    hold=(*(None,) * 7, 7),
)
"""Actions are joint velocities."""

DROID_JOINT_POSITION = replace(
    DROID,
    name="droid_joint_position",
    actions=(*joints(*_ARM), _GRIPPER),
    hold=tuple(range(8)),
)
"""Actions are joint positions in rad."""
