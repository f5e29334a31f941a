"""LIBERO's Franka arm: actions are end-effector deltas and a gripper command.

Source: ``openpi/policies/libero_policy.py``. The state is the end effector's position (3), its
axis-angle (3), and the two fingers.

The deltas are shares of the greatest step of robosuite's ``OSC_POSE`` controller: 1 is 0.05 m or
0.5 rad in one step, along and about the axes of the simulated world, to which the arm's base is
parallel. The gripper closes while its number is above 0, opens while it is below, and stays at 0
(``robosuite/models/grippers/panda_gripper.py``).
"""

from openpi_flash_models.robots.action_column import ActionColumn
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.robot_input import CameraInput, StateInput

_POSITION = ("x", "y", "z")
_ROTATION = ("rx", "ry", "rz")

LIBERO = Robot(
    name="libero",
    cameras=(
        CameraInput(("observation/image",), "base_0_rgb"),
        CameraInput(("observation/wrist_image",), "left_wrist_0_rgb"),
    ),
    state=(
        StateInput(
            "observation/state",
            8,
            names=(*_POSITION, *_ROTATION, "finger_joint1", "finger_joint2"),
            unit=(*("m",) * 3, *("rad",) * 3, *("m",) * 2),
            frame="world",
            rotation="rotvec",
        ),
    ),
    actions=(
        *(ActionColumn(axis, "eef_delta", "1", "previous_step", "world") for axis in _POSITION),
        *(
            ActionColumn(axis, "eef_delta", "1", "previous_step", "world", "rotvec")
            for axis in _ROTATION
        ),
        ActionColumn("gripper", "gripper", "1", "previous_step", closed=1.0, open=-1.0),
    ),
    control_hz=20.0,
    hold=(None,) * 7,
)
