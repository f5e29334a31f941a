"""A mobile base with one camera: its velocity is measured and commanded, at 10 Hz.

The twist is that of ROS 2 bases (``cmd_vel`` and ``odom``) in the plane. A base that cannot move
sideways measures 0 for ``vy`` and ignores the command.
"""

from openpi_flash_models.robots.action_column import BASE_FRAME, base_twist
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.robot_input import CameraInput, StateInput

MOBILE_BASE = Robot(
    name="mobile_base",
    cameras=(CameraInput(("observation/image",), "base_0_rgb"),),
    state=(
        StateInput(
            "observation/twist",
            3,
            names=("vx", "vy", "wz"),
            unit=("m/s", "m/s", "rad/s"),
            frame=BASE_FRAME,
        ),
    ),
    actions=base_twist(),
    control_hz=10.0,
    hold=(None,) * 3,
)
