"""The simulated arm in the words of docs/robot_parameters.md, for the robot's own chunk player.

Faster than `config/robots/sim_arm.yaml`, which is for weights that nobody trained: the expert moves
joints at 2 rad/s. Stricter, too: a chunk of a policy that was trained begins where the arm is.
"""

from __future__ import annotations

from typing import Any

from openpi_flash_robot.run.settings_file import robot_settings
from openpi_flash_robot.settings.node_settings import NodeSettings
from sim_robot.robot import CAMERAS, JOINTS, LOWER_LIMITS, UPPER_LIMITS

SERVER = "127.0.0.1"


def arm_parameters() -> dict[str, Any]:
    """The parameters by their names; those with dots are nested."""
    return {
        "server": SERVER,
        "dry_run": False,
        "cameras": list(CAMERAS),
        "camera": {name: {"key": f"observation/{name}_image"} for name in CAMERAS},
        "joints": list(JOINTS),
        "state_key": "observation/state",
        "max_frozen_time": 0.0,
        "max_start_delta": [0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 1.5],
        "max_velocity": [2.0, 2.0, 2.0, 2.5, 2.5, 2.5, 2.0],
        "max_acceleration": [15.0, 15.0, 15.0, 20.0, 20.0, 20.0, 30.0],
        # a gripper that holds a cube is not where it is commanded to be
        "max_tracking_error": [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0],
        "position_lower": list(LOWER_LIMITS),
        "position_upper": list(UPPER_LIMITS),
    }


def arm_settings(**changes: Any) -> NodeSettings:
    """The settings.

    Args:
        changes: parameters that differ.

    Raises:
        ParameterError: a parameter is unknown or out of range.
    """
    return robot_settings(**{**arm_parameters(), **changes})
