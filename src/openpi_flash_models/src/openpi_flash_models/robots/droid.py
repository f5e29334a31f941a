"""DROID's Franka arm: joint velocities and a gripper position, at 15 Hz."""

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
    action_names=(*(f"joint_{i}" for i in range(1, 8)), "gripper"),
    control_hz=15.0,
)
