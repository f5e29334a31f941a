"""Drives a robot of LeRobot (SO-101, Koch and their like) by its own interface.

What is used of it is its interface since 0.4: `get_observation`, `send_action`,
`observation_features`, `action_features`; lerobot itself is not imported. Where the robot has a
`bus` and `cameras`, as those of Feetech and Dynamixel motors have, joints and images are read
apart, so that a camera does not delay the motors.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.run.robot import Reading

MOTOR = ".pos"
"""How the key of a motor's position ends."""

SCALES = {
    "degrees": math.pi / 180.0,
    "range_m100_100": 0.01,
    "range_0_100": 0.01,
    "as_it_is": 1.0,
}
"""What 1 of a motor is in the joint's unit, by the names of lerobot's MotorNormMode: rad for
degrees, a share of the calibrated range for the others (-1 to 1, or 0 to 1)."""

LIMITED = 2e-3
"""rad, or share of the range; the robot has changed an action that it returns farther away."""

log = logging.getLogger("openpi_flash_robot")


class LeRobotRobot(Protocol):
    """What is used of lerobot's `Robot`."""

    @property
    def observation_features(self) -> Mapping[str, Any]:
        """Types of numbers, and shapes of images, by their keys."""

    @property
    def action_features(self) -> Mapping[str, Any]:
        """Types of numbers by their keys."""

    def get_observation(self) -> Mapping[str, Any]:
        """What is measured now."""

    def send_action(self, action: dict[str, Any]) -> Mapping[str, Any]:
        """Go there; what was really sent."""


class LeRobotArm:
    """A robot of LeRobot as `PolicyRunner` reads and commands it; connect it before.

    Attributes:
        joints: names of its motors, in the order of its actions.
        cameras: names of its cameras.
        limited: by joint, how far the last action that was sent was from the one that was asked
            for, rad or share of the range; empty where the robot does as it is told.
    """

    def __init__(self, robot: LeRobotRobot, *, units: str | Mapping[str, str] = "") -> None:
        """Take the names from the robot's features.

        Args:
            robot: connected and calibrated.
            units: what a motor counts: degrees, range_m100_100, range_0_100 or as_it_is; for all of
                them or by motor. Empty: what its bus says.

        Raises:
            ValueError: the robot is commanded by something else than positions of motors, does not
                measure one that it commands, or the unit of a motor is not known.
        """
        self._robot = robot
        self.joints = _joints(robot)
        self._units = {joint: _unit(robot, joint, units) for joint in self.joints}
        self._scales = np.array([SCALES[unit] for unit in self._units.values()])
        # a depth image has another shape
        shapes = robot.observation_features.items()
        self.cameras = tuple(
            name for name, shape in shapes if isinstance(shape, tuple) and shape[2:] == (3,)
        )
        self.limited: dict[str, float] = {}
        self._bus_lock = threading.Lock()  # a bus carries one message at a time
        self._bus = _bus(robot, self.joints)
        self._devices = getattr(robot, "cameras", None) if self._bus is not None else None
        if isinstance(self._devices, Mapping) and set(self.cameras) <= set(self._devices):
            # only now: a robot with this method is asked for its images by it
            self.read_images = self._read_images
        else:
            self._devices = None

    def parameters(self) -> dict[str, Any]:
        """Parameters of the node that this robot decides, for `robot_settings`.

        Image keys, limits and the rest are yours.
        """
        grippers = [joint for joint in self.joints if self._units[joint] == "range_0_100"]
        chosen: dict[str, Any] = {"joints": list(self.joints), "cameras": list(self.cameras)}
        return chosen | ({"gripper_joints": grippers} if grippers else {})

    def read(self) -> Reading:
        """Positions of the motors, and the images where they are not read apart."""
        if self._devices is not None:
            with self._bus_lock:
                measured = self._bus.sync_read("Present_Position")
            return Reading([measured[joint] for joint in self.joints] * self._scales)
        with self._bus_lock:
            observation = self._robot.get_observation()
        positions = [float(observation[joint + MOTOR]) for joint in self.joints]
        images = {name: observation[name] for name in self.cameras}
        return Reading(positions * self._scales, images)

    def _read_images(self) -> dict[str, NDArray[Any]]:
        """A new image of every camera; waits for it."""
        assert self._devices is not None
        return {name: self._devices[name].async_read() for name in self.cameras}

    def command(self, positions: NDArray[np.float64], _: NDArray[np.float64], /) -> None:
        """Send positions of all joints, rad or share of the range, in the order of `joints`."""
        asked = positions / self._scales
        action = {
            joint + MOTOR: float(value) for joint, value in zip(self.joints, asked, strict=True)
        }
        with self._bus_lock:
            sent = self._robot.send_action(action)
        self._notice(action, sent)

    def _notice(self, asked: Mapping[str, float], sent: Mapping[str, Any] | None) -> None:
        """Warn once when the robot begins to change what it is told."""
        limited = {}
        for joint, scale in zip(self.joints, self._scales, strict=True):
            key = joint + MOTOR
            away = abs(float((sent or asked).get(key, asked[key])) - asked[key]) * scale
            if away > LIMITED:
                limited[joint] = float(away)
        if limited and not self.limited:
            told = ", ".join(f"{joint} by {away:.3f}" for joint, away in limited.items())
            log.warning(
                "the robot does not go as far as it is told (%s): its own limit, such as "
                "max_relative_target, is below max_velocity; it will be stopped where that exceeds "
                "max_tracking_error",
                told,
            )
        self.limited = limited


def _joints(robot: LeRobotRobot) -> tuple[str, ...]:
    foreign = [key for key in robot.action_features if not key.endswith(MOTOR)]
    if foreign:
        raise ValueError(
            f"the robot is commanded by {', '.join(foreign)}, expected positions of motors "
            f"(<motor>{MOTOR}); write a `read` and a `command` of your own for it"
        )
    unseen = [key for key in robot.action_features if key not in robot.observation_features]
    if unseen:
        raise ValueError(f"the robot does not measure {', '.join(unseen)}, which it commands")
    return tuple(key.removesuffix(MOTOR) for key in robot.action_features)


def _unit(robot: LeRobotRobot, joint: str, units: str | Mapping[str, str]) -> str:
    unit = units if isinstance(units, str) else units.get(joint, "")
    if not unit:
        motors = getattr(getattr(robot, "bus", None), "motors", {})
        mode = getattr(motors.get(joint), "norm_mode", "")
        unit = str(getattr(mode, "value", mode))
    if unit not in SCALES:
        said = f"is {unit!r}" if unit else "is not known"
        raise ValueError(
            f"the unit of motor {joint} {said}; pass units, one of {', '.join(SCALES)}, for all "
            "motors or by motor"
        )
    return unit


def _bus(robot: LeRobotRobot, joints: tuple[str, ...]) -> Any:
    """The robot's bus, if reading it gives what the robot itself would; else None."""
    bus = getattr(robot, "bus", None)
    if not hasattr(bus, "sync_read") or tuple(getattr(bus, "motors", ())) != joints:
        return None
    return bus
