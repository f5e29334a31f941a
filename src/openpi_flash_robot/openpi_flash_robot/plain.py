"""All that a robot program without ROS needs, under one name.

`from openpi_flash_robot.plain import PolicyRunner, Reading, load_settings`
"""

from openpi_flash_robot.broker.smooth_policy import PolicyError, SmoothPolicy
from openpi_flash_robot.episodes.folder import EpisodeError
from openpi_flash_robot.lerobot_robot import LeRobotArm
from openpi_flash_robot.run.listeners import CommandSent
from openpi_flash_robot.run.robot import CommandWindow, Reading, ReadingError, Robot
from openpi_flash_robot.run.runner import PolicyRunner, RobotFaultError
from openpi_flash_robot.run.settings_file import load_settings, robot_settings
from openpi_flash_robot.settings.parameter_kinds import ParameterError

__all__ = [
    "CommandSent",
    "CommandWindow",
    "EpisodeError",
    "LeRobotArm",
    "ParameterError",
    "PolicyError",
    "PolicyRunner",
    "Reading",
    "ReadingError",
    "Robot",
    "RobotFaultError",
    "SmoothPolicy",
    "load_settings",
    "robot_settings",
]
