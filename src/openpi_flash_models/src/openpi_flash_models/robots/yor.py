"""YOR, "Your Own Mobile Manipulator" (arXiv 2602.11150): two arms, a lift, and a swerve base.

Source: ``robot/yor.py`` and the description of ``YOR-robot/YOR``. It was built with AgileX PiPER
arms of six joints, and with AgileX Nero arms of seven. Positions are what its RPC calls take and
give: joints in rad, the grippers 0 closed to 1 open, the height of the lift in m from its lowest
point, the velocity of the base. Its software has no ROS and no names for the lift and the base;
those here are ours, and so are the keys. The base is not in the state.
"""

from openpi_flash_models.robots.action_column import ActionColumn, base_twist, gripper, joints
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.robot_input import CameraInput, StateInput, arm_state


def _yor(name: str, *, arm: int) -> Robot:
    """A robot of so many joints in each arm."""
    left, right = (
        tuple(f"{side}_arm_joint{i + 1}" for i in range(arm)) for side in ("left", "right")
    )
    return Robot(
        name=name,
        cameras=(
            CameraInput(("observation/head_image",), "base_0_rgb"),
            CameraInput(("observation/left_wrist_image",), "left_wrist_0_rgb", required=False),
            CameraInput(("observation/right_wrist_image",), "right_wrist_0_rgb", required=False),
        ),
        state=(
            arm_state("observation/left_arm", *left, "left_gripper"),
            arm_state("observation/right_arm", *right, "right_gripper"),
            StateInput("observation/lift", 1, "joints", ("lift_joint",), "m"),
        ),
        actions=(
            *joints(*left),
            gripper("left_gripper", closed=0.0, open=1.0),
            *joints(*right),
            gripper("right_gripper", closed=0.0, open=1.0),
            ActionColumn("lift_joint", "position", "m"),
            *base_twist(),
        ),
        control_hz=15.0,
        hold=(*range(2 * (arm + 1) + 1), None, None, None),
    )


YOR = _yor("yor", arm=6)
"""With PiPER arms."""

YOR_NERO = _yor("yor_nero", arm=7)
"""With Nero arms."""
