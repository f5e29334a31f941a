"""The simulated arm in the words of docs/robot_parameters.md, for the robot's own chunk player.

As `config/robots/sim_arm.yaml` has it for ROS, but faster: the expert moves joints at 2 rad/s.
"""

from __future__ import annotations

from typing import Any

from openpi_flash_robot.run.settings_file import robot_settings
from openpi_flash_robot.settings.node_settings import NodeSettings
from sim_robot.robot import CAMERAS, JOINTS, LOWER_LIMITS, UPPER_LIMITS

SERVER = "127.0.0.1"


def arm_settings(**changes: Any) -> NodeSettings:
    """The settings.

    Args:
        changes: parameters that differ.

    Raises:
        ParameterError: a parameter is unknown or out of range.
    """
    given: dict[str, Any] = {
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
    return robot_settings(**{**given, **changes})
