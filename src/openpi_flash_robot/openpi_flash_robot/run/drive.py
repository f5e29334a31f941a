"""One robot and the bridge that decides for it, without threads, sockets or a clock.

Two sides, which may be two threads: the bridge's (`decide`, `take_*`, the orders) under one lock of
the caller, and the robot's (`command`), which needs none: it reads the newest window only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.bridge.effects import Effect, PublishTrajectory
from openpi_flash_robot.bridge.status import Cause, Condition, State, Status
from openpi_flash_robot.nanoseconds import from_seconds
from openpi_flash_robot.play.joint_limits import JointLimits
from openpi_flash_robot.play.motion import Motion, MotionState
from openpi_flash_robot.run.pacing import Pacing
from openpi_flash_robot.run.robot import Reading, checked, checked_images
from openpi_flash_robot.run.window_player import WindowPlayer
from openpi_flash_robot.senses.observation import Image
from openpi_flash_robot.senses.rotation import quaternion_of
from openpi_flash_robot.settings.node_settings import NodeSettings


@dataclass(frozen=True)
class Fault:
    """What ends a run: only a new runner goes on.

    Attributes:
        message: for a person.
        error: what was raised.
    """

    message: str
    error: Exception


class Drive:
    """Hands readings to the bridge and its motion to the robot.

    Attributes:
        bridge: decides.
        player: what is due.
        fault: why the run has ended; None while it has not.
        read_problems: by what is read, the error of the last attempt, for the status.
    """

    def __init__(self, settings: NodeSettings) -> None:
        """Begin inactive.

        Args:
            settings: of the robot.
        """
        self._settings = settings
        self.bridge: Bridge[Image] = Bridge(settings)
        self.bridge.command_topics(0, [])  # there are none, so nobody else speaks there
        self.player = WindowPlayer(settings)
        self._pacing = _pacing(settings, self.player.axes)
        self._said: Motion | None = None
        self.fault: Fault | None = None
        self.read_problems: dict[str, str] = {}

    # --- the bridge's side ---

    def take_reading(self, now: int, reading: Reading) -> Reading:
        """Take what the robot has measured; a copy of it.

        Args:
            now: when `read` was called.
            reading: with or without images.

        Raises:
            ReadingError: it cannot be used; none of it was taken.
        """
        taken = checked(reading, self._settings)
        stamp_ns = now if taken.stamp is None else from_seconds(taken.stamp)
        observation = self._settings.observation
        positions = list(taken.positions)
        self.bridge.add_joints(
            stamp_ns,
            observation.joint_names,
            positions[: len(observation.joint_names)],
            list(taken.velocities),
            list(taken.efforts),
        )
        begin = len(observation.joint_names)
        for pose in observation.poses:
            place, vector = positions[begin : begin + 3], positions[begin + 3 : begin + 6]
            begin += len(pose.axes)
            quaternion = quaternion_of(vector)
            self.bridge.add_pose(pose.controller, stamp_ns, place, quaternion, pose.frame)
        for state, values in taken.states.items():
            self.bridge.add_vector(state, stamp_ns, list(values))
        for camera, image in taken.images.items():
            self.bridge.add_frame(camera, stamp_ns, image)
        return taken

    def take_images(self, now: int, images: Mapping[str, Any]) -> dict[str, Image]:
        """Take images that were read apart from the joints; copies of them.

        Args:
            now: when reading them began.
            images: by the name of the camera.

        Raises:
            ReadingError: one of them cannot be used; none was taken.
        """
        taken = checked_images(images, self._settings)
        for camera, image in taken.items():
            self.bridge.add_frame(camera, now, image)
        return taken

    def decide(self, now: int) -> list[Effect]:
        """Let time pass; what is to be done, the motion aside."""
        self.bridge.tick(now)
        return self.carry()

    def carry(self) -> list[Effect]:
        """Take the bridge's effects; those that are not the motion are returned."""
        others: list[Effect] = []
        for effect in self.bridge.take_effects():
            if isinstance(effect, PublishTrajectory):
                self.player.take(effect)
            else:
                others.append(effect)
        return others

    def status(self, now: int) -> Status:
        """What the robot does and why, in the words of Python."""
        status = self.bridge.status(now)
        if self.fault is not None:
            return replace(status, condition=_fault_condition(self.fault))
        message = status.message
        if status.cause is Cause.OBSERVATION and self.read_problems:
            message += "".join(f"; {problem}" for problem in self.read_problems.values())
        return replace(status, condition=replace(status.condition, message=in_python(message)))

    # --- the robot's side ---

    def command(self, now: int) -> MotionState | None:
        """What the robot is to be told at this moment; None for nothing."""
        wanted = self.player.due(now)
        if wanted is None:
            self._pacing.forget()
            return None
        return self._pacing.next(now, wanted)

    def new_window(self) -> Motion | None:
        """The newest window, if it was not handed out before."""
        window = self.player.window
        if window is self._said:
            return None
        self._said = window
        return window


def in_python(message: str) -> str:
    """A message of the bridge, which names ROS services, with Python's methods instead."""
    return re.sub(r"~/(\w+)", r"\1()", message)


def _fault_condition(fault: Fault) -> Condition:
    return Condition(State.FAULT, Cause.COMMANDER, fault.message, resumes_by_itself=False)


def _pacing(settings: NodeSettings, axes: tuple[str, ...]) -> Pacing:
    columns = [settings.axes.index(axis) for axis in axes]
    player = settings.player
    limits = JointLimits(
        np.asarray(player.position_lower)[columns],
        np.asarray(player.position_upper)[columns],
        np.asarray(player.max_velocity)[columns],
        np.asarray(player.max_acceleration)[columns],
    )
    rates = [axis for c in settings.controllers if c.kind.takes_rates for axis in c.joints]
    return Pacing(limits, settings.control_period_ns, np.array([axis in rates for axis in axes]))
