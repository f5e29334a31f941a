"""Galaxea's R1 Lite and R1 Pro: two arms with grippers, a torso and a base that moves in any way.

Joints are named as in Galaxea's URDF, keys after the columns of its datasets
(``OpenGalaxea/GalaxeaLeRobotToolkit``). Arms: ``/hdas/feedback_arm_left`` and ``_right``; grippers:
``/hdas/feedback_gripper_left`` and ``_right``, 0 closed to 100 open. Models are trained on these;
requests and actions have shares, 0 to 1. Torso: ``/hdas/feedback_torso``, whose fourth number is no
joint of the R1 Lite. The base is not in the state, as in openpi's base models.

The torso of the R1 Lite is one linkage: its three joints must move together, and Galaxea's joint
tracker ignores them unless it is started with the torso.
"""

from openpi_flash_models.robots.action_column import base_twist, gripper, joints
from openpi_flash_models.robots.linear import scaling
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.robot_input import CameraInput, gripper_state, joint_state


def _r1(name: str, *, arm: int, torso: int) -> Robot:
    """A robot of so many joints in each arm and in the torso."""
    left, right = (
        tuple(f"{side}_arm_joint{i + 1}" for i in range(arm)) for side in ("left", "right")
    )
    trunk = tuple(f"torso_joint{i + 1}" for i in range(torso))
    both_arms = (*(1.0,) * arm, 100.0) * 2
    to_model, _ = scaling(*both_arms, *(1.0,) * torso)
    actions_to_model, actions_to_robot = scaling(*both_arms, *(1.0,) * (torso + 3))
    return Robot(
        name=name,
        cameras=(
            CameraInput(("observation/head_rgb",), "base_0_rgb"),
            CameraInput(("observation/left_wrist_rgb",), "left_wrist_0_rgb"),
            CameraInput(("observation/right_wrist_rgb",), "right_wrist_0_rgb"),
        ),
        state=(
            joint_state("observation/left_arm", *left),
            gripper_state("observation/left_gripper", "left_gripper"),
            joint_state("observation/right_arm", *right),
            gripper_state("observation/right_gripper", "right_gripper"),
            joint_state("observation/torso", *trunk),
        ),
        actions=(
            *joints(*left),
            gripper("left_gripper", closed=0.0, open=1.0),
            *joints(*right),
            gripper("right_gripper", closed=0.0, open=1.0),
            *joints(*trunk),
            *base_twist(),
        ),
        control_hz=15.0,
        state_to_model=to_model,
        actions_to_robot=actions_to_robot,
        actions_to_model=actions_to_model,
        hold=(*range(2 * (arm + 1) + torso), None, None, None),
    )


R1_LITE = _r1("r1_lite", arm=6, torso=3)
R1_PRO = _r1("r1_pro", arm=7, torso=4)
