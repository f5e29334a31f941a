"""LIBERO's Franka arm: actions are end-effector deltas and a gripper command.

Source: ``openpi/policies/libero_policy.py``. The state is the end effector's position (3), its
axis-angle (3), and the two fingers.
"""

from openpi_flash_models.robots.action_column import ActionColumn
from openpi_flash_models.robots.robot import CameraInput, Robot, StateInput

LIBERO = Robot(
    name="libero",
    cameras=(
        CameraInput(("observation/image",), "base_0_rgb"),
        CameraInput(("observation/wrist_image",), "left_wrist_0_rgb"),
    ),
    state=(StateInput("observation/state", 8),),
    # shares of robosuite's OSC_POSE controller's greatest step, not metres and radians
    actions=(
        *(
            ActionColumn(axis, "eef_delta", "1", "previous_step")
            for axis in ("x", "y", "z", "roll", "pitch", "yaw")
        ),
        ActionColumn("gripper", "gripper", "1", "previous_step"),
    ),
    control_hz=20.0,
    # robosuite's gripper does not move at zero either
    hold=(None,) * 7,
)
