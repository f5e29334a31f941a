"""DROID's Franka arm at 15 Hz: the models command joint velocities, or joint positions.

Source: ``openpi/policies/droid_policy.py``. The gripper is a position in both, 0 is open.
"""

from dataclasses import replace

from openpi_flash_models.robots.action_column import gripper, joint_velocities, joints
from openpi_flash_models.robots.robot import CameraInput, Robot, StateInput

DROID = Robot(
    name="droid",
    cameras=(
        CameraInput(("observation/exterior_image_1_left",), "base_0_rgb"),
        CameraInput(("observation/wrist_image_left",), "left_wrist_0_rgb"),
    ),
    state=(
        StateInput("observation/joint_position", 7),
        StateInput("observation/gripper_position", 1),
    ),
    actions=(*joint_velocities(*(f"joint_{i}" for i in range(1, 8))), gripper()),
    control_hz=15.0,
    hold=(*(None,) * 7, 7),
)
"""Actions are joint velocities."""

DROID_JOINT_POSITION = replace(
    DROID,
    name="droid_joint_position",
    actions=(*joints(*(f"joint_{i}_position" for i in range(1, 8))), gripper()),
    hold=tuple(range(8)),
)
"""Actions are joint positions."""
