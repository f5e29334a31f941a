"""UR5 and UR5e with a gripper, by the keys of openpi's ``examples/ur5``; joint positions, 20 Hz.

Joints are named as ``ur_robot_driver`` names them. The gripper is 0 open and 1 closed, as in the
models' training data (``docs/norm_stats.md`` of openpi).
"""

from dataclasses import replace

from openpi_flash_models.robots.action_column import gripper, joints
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.robot_input import CameraInput, gripper_state, joint_state

_ARM = (
    "shoulder_pan_joint",
    "shoulder_lift_joint",
    "elbow_joint",
    "wrist_1_joint",
    "wrist_2_joint",
    "wrist_3_joint",
)

UR5 = Robot(
    name="ur5",
    cameras=(
        CameraInput(("base_rgb",), "base_0_rgb"),
        CameraInput(("wrist_rgb",), "left_wrist_0_rgb"),
    ),
    state=(joint_state("joints", *_ARM), gripper_state("gripper")),
    actions=(*joints(*_ARM), gripper(closed=1.0, open=0.0)),
    control_hz=20.0,
    hold=tuple(range(7)),
)

UR5E = replace(UR5, name="ur5e")
"""The same by its newer name."""
