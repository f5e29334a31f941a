"""The simulated arm of the demo: six joints and a gripper, a scene and a wrist camera."""

from openpi_flash_models.robots.action_column import gripper, joints
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.robot_input import CameraInput, arm_state

_ARM = (
    "shoulder_pan",
    "shoulder_lift",
    "elbow",
    "wrist_pitch",
    "wrist_yaw",
    "wrist_roll",
)

SIM_ARM = Robot(
    name="sim_arm",
    cameras=(
        CameraInput(("observation/scene_image",), "base_0_rgb"),
        CameraInput(("observation/wrist_image",), "left_wrist_0_rgb"),
    ),
    state=(arm_state("observation/state", *_ARM, "gripper"),),
    actions=(*joints(*_ARM), gripper(closed=1.0, open=0.0)),
    control_hz=25.0,
    hold=tuple(range(7)),
)
