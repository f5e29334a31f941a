"""ALOHA: two arms of six joints and a gripper each.

Source: ``openpi/policies/aloha_policy.py``. Models were trained on another zero and direction of
some joints, and on the gripper's angle instead of its opening. The gripper's conversions for state
and for actions are openpi's, and are not each other's inverse. The robot's gripper is 0 closed and
1 open (``PUPPET_GRIPPER_POSITION_CLOSE`` and ``_OPEN`` of ALOHA's ``constants.py``).
"""

from __future__ import annotations

import numpy as np

from openpi_flash_models.robots.action_column import gripper, joints
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.robot_input import CameraInput, StateInput

_ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
_FLIP = np.array([1, -1, -1, 1, 1, 1, 1] * 2)
_GRIPPERS = [6, 13]


def _state_to_model(state: np.ndarray) -> np.ndarray:
    result = _FLIP * state
    result[_GRIPPERS] = gripper_to_angle(result[_GRIPPERS])
    return result


def _actions_to_robot(actions: np.ndarray) -> np.ndarray:
    result = _FLIP * actions
    result[:, _GRIPPERS] = gripper_from_angle(result[:, _GRIPPERS])
    return result


def _actions_to_model(actions: np.ndarray) -> np.ndarray:
    result = _FLIP * actions
    result[:, _GRIPPERS] = gripper_to_action(result[:, _GRIPPERS])
    return result


def gripper_to_action(opening: np.ndarray) -> np.ndarray:
    """The inverse of :func:`gripper_from_angle`."""
    return opening * (1.4910 + 0.6213) - 0.6213 - 0.5476


def gripper_to_angle(opening: np.ndarray) -> np.ndarray:
    """ALOHA's opening in [0, 1] to the angle, in [0, 1] over the training robot's range."""
    # linear position of the finger in m, then the geometry of the crank
    position = opening * (0.05800 - 0.01844) + 0.01844
    arm, rod = 0.022, 0.036
    ratio = (arm**2 + position**2 - rod**2) / (2 * arm * position)
    angle = np.arcsin(np.clip(ratio, -1.0, 1.0))
    return (angle - 0.5476) / (1.6296 - 0.5476)


def gripper_from_angle(value: np.ndarray) -> np.ndarray:
    """The model's gripper action to ALOHA's command in [0, 1]."""
    return (value + 0.5476 + 0.6213) / (1.4910 + 0.6213)


_ACTIONS = tuple(
    column
    for side in ("left", "right")
    for column in (
        *joints(*(f"{side}_{joint}" for joint in _ARM)),
        gripper(f"{side}_gripper", closed=0.0, open=1.0),
    )
)

ALOHA = Robot(
    name="aloha",
    cameras=(
        CameraInput(("images", "cam_high"), "base_0_rgb", "chw"),
        CameraInput(("images", "cam_left_wrist"), "left_wrist_0_rgb", "chw", required=False),
        CameraInput(("images", "cam_right_wrist"), "right_wrist_0_rgb", "chw", required=False),
    ),
    ignored_images=(("images", "cam_low"),),
    state=(
        StateInput(
            "state",
            14,
            kind="joints",
            names=tuple(column.name for column in _ACTIONS),
            unit=tuple(column.unit for column in _ACTIONS),
        ),
    ),
    actions=_ACTIONS,
    control_hz=50.0,
    state_to_model=_state_to_model,
    actions_to_robot=_actions_to_robot,
    actions_to_model=_actions_to_model,
    hold=tuple(range(14)),
)
