"""UR5 and UR5e with a gripper, by the keys of openpi's ``examples/ur5``; joint positions, 20 Hz."""

from openpi_flash_models.robots.action_column import gripper, joints
from openpi_flash_models.robots.robot import CameraInput, Robot, StateInput

UR5 = Robot(
    name="ur5",
    cameras=(
        CameraInput(("base_rgb",), "base_0_rgb"),
        CameraInput(("wrist_rgb",), "left_wrist_0_rgb"),
    ),
    state=(StateInput("joints", 6), StateInput("gripper", 1)),
    actions=(
        *joints(
            "shoulder_pan",
            "shoulder_lift",
            "elbow",
            "wrist_1",
            "wrist_2",
            "wrist_3",
        ),
        gripper(),
    ),
    control_hz=20.0,
    hold=tuple(range(7)),
)
