"""The simulated arm of the demo: six joints and a gripper, a scene and a wrist camera."""

from openpi_flash_models.robots.action_column import gripper, joints
from openpi_flash_models.robots.robot import CameraInput, Robot, StateInput

SIM_ARM = Robot(
    name="sim_arm",
    cameras=(
        CameraInput(("observation/scene_image",), "base_0_rgb"),
        CameraInput(("observation/wrist_image",), "left_wrist_0_rgb"),
    ),
    state=(StateInput("observation/state", 7),),
    actions=(
        *joints(
            "shoulder_pan",
            "shoulder_lift",
            "elbow",
            "wrist_pitch",
            "wrist_yaw",
            "wrist_roll",
        ),
        gripper(),
    ),
    control_hz=25.0,
    hold=tuple(range(7)),
)
