"""SO-101: an arm of five joints and a gripper, with a front and an optional wrist camera.

Requests and actions are in rad, and the gripper is 0 closed and 1 open. Models are trained on
LeRobot's numbers: degrees, and 0 to 100 for the gripper (``lerobot/robots/so_follower``, with
``use_degrees``). Names, zeros and directions are LeRobot's, which those of
``so101_new_calib.urdf`` follow.
"""

import math

from openpi_flash_models.robots.action_column import gripper, joints
from openpi_flash_models.robots.linear import scaling
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.robot_input import CameraInput, arm_state

_ARM = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
_TO_MODEL, _TO_ROBOT = scaling(*(180 / math.pi,) * 5, 100.0)

SO101 = Robot(
    name="so101",
    cameras=(
        CameraInput(("observation/front_image",), "base_0_rgb"),
        CameraInput(("observation/wrist_image",), "left_wrist_0_rgb", required=False),
    ),
    state=(arm_state("observation/state", *_ARM, "gripper"),),
    actions=(*joints(*_ARM), gripper(closed=0.0, open=1.0)),
    control_hz=30.0,
    state_to_model=_TO_MODEL,
    actions_to_robot=_TO_ROBOT,
    actions_to_model=_TO_MODEL,
    hold=tuple(range(6)),
)
