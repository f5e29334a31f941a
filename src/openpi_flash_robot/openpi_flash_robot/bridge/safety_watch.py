"""What stops a robot that moves, or keeps it from starting, apart from chunks and the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from openpi_flash_robot.bridge.command_topic import CommandTopic, objection
from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.play.motion import Joints
from openpi_flash_robot.play.tracking_guard import TrackingGuard
from openpi_flash_robot.senses.frames import CameraFrames
from openpi_flash_robot.senses.frozen import FrozenImages
from openpi_flash_robot.senses.joints import MOVED_WITHIN_NS, JointReading
from openpi_flash_robot.senses.states import StateSources
from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.readiness import why_not_move

AT_REST = 0.01
"""rad or m; a robot that moves by less before its start stands."""


class SafetyWatch:
    """Looks at the senses, the controllers' topics and the settings.

    Attributes:
        unready: why the settings do not allow to move; None if they do.
        tracking_error: of the joint that followed worst when it was last looked at, rad or m; NaN
            before.
    """

    def __init__(
        self,
        settings: NodeSettings,
        frames: CameraFrames[Any],
        states: StateSources,
        fingerprint: Callable[[Any], int] | None = None,
    ) -> None:
        """Begin with controllers that nobody has looked for yet.

        Args:
            settings: of the node.
            frames: of the cameras.
            states: joints and other numbers.
            fingerprint: of an image, by which one that never changes is known; None looks at none.
        """
        self._frames, self._states, self._joints = frames, states, states.joints
        self._images = FrozenImages(frames, fingerprint)
        joint_of = {joint: index for index, joint in enumerate(settings.joints)}
        self._joint_of_axis = [joint_of.get(axis, -1) for axis in settings.axes]
        self._guard = TrackingGuard(
            settings.axes,
            settings.player.max_tracking_error,
            settings.tracking_delay_ns,
            settings.moved_axes,
        )
        self.tracking_error = float("nan")
        self._topics: Hold | None = _LOOKING_AROUND if settings.player.is_commanded else None
        self.update_settings(settings)

    def update_settings(self, settings: NodeSettings) -> None:
        """Take new values of the dynamic parameters."""
        self._settings = settings
        self.unready = why_not_move(settings)
        self._guard.update_limits(settings.player.max_tracking_error, settings.tracking_delay_ns)

    @property
    def topic_problem(self) -> Hold | None:
        """Why nothing may be commanded on the controllers' topics; None if it may."""
        return self._topics

    def look_at_topics(
        self, topics: Sequence[CommandTopic], other: Hold | None = None
    ) -> Hold | None:
        """Take who is at the controllers' topics; why nothing may be commanded there.

        Args:
            topics: of all controllers.
            other: what else speaks against commanding them.
        """
        self._topics = objection(topics) or other
        return self._topics

    def start(self) -> None:
        """The robot begins to move: what was commanded before does not count any more."""
        self._guard.forget()
        self.tracking_error = float("nan")

    def blind(self, now: int) -> Hold | None:
        """Which input has been missing for longer than the robot may move without it."""
        limits = self._settings.observation
        longest = {"max_blind_ns": limits.max_blind_ns, "max_age_ns": limits.max_age_ns}
        return (
            self._frames.blind(now, **longest)
            or self._states.blind(now, **longest)
            or self.frozen()
        )

    def joints_blind(self, now: int) -> Hold | None:
        """Which joint has been silent for longer than the robot may move without it."""
        limits = self._settings.observation
        return self._joints.blind(
            now, max_blind_ns=limits.max_blind_ns, max_age_ns=limits.max_age_ns
        )

    def frozen(self) -> Hold | None:
        """Which camera goes on sending the same image."""
        return self._images.problem(self._settings.observation.max_frozen_ns)

    def by_axis(self, of_joints: Joints) -> Joints:
        """Values of the joints in the order of the axes, [N]; 0 for one that is no joint."""
        return np.append(of_joints, 0.0)[self._joint_of_axis]

    def lost(self, now: int, commanded: Joints) -> Hold | None:
        """Which joint does not follow; None if all do.

        Args:
            now: this moment.
            commanded: positions of this moment, [N].
        """
        self._guard.command(now, commanded)
        reading = self._joints.newest(now, max_age_ns=self._settings.observation.max_blind_ns)
        if not isinstance(reading, JointReading):
            return None
        reason = self._guard.check(reading.oldest_ns, self.by_axis(reading.positions))
        self.tracking_error = self._guard.greatest_error
        return reason

    def blocked_at(self, now: int) -> Joints | None:
        """Where the joints stand, if they were commanded to be there lately, [N]; else None."""
        reading = self._joints.newest(now, max_age_ns=self._settings.observation.max_blind_ns)
        if not isinstance(reading, JointReading):
            return None
        moves = bool(np.any(self._watched_joints_moved() > AT_REST))
        here = self.by_axis(reading.positions)
        if moves or not self._guard.has_been_near(here):
            return None
        return here

    def moved_by_another(self) -> Hold | None:
        """Why a robot that was not commanded may not start: it moves already."""
        moved = self._watched_joints_moved()
        joint = int(np.argmax(moved))
        if moved[joint] <= AT_REST:
            return None
        return Hold(
            HoldKind.COMMANDER,
            f"joint {self._settings.axes[joint]} moves, and not by this node: by "
            f"{moved[joint]:.3f} in the last {to_seconds(MOVED_WITHIN_NS):.1f} s; wait until it "
            "stands, and stop what moves it",
        )

    def _watched_joints_moved(self) -> Joints:
        """How far each axis moved lately, 0 where its tracking error is not watched, [N]."""
        watched = np.asarray(self._settings.player.max_tracking_error) > 0
        return np.where(watched, self.by_axis(self._joints.moved()), 0.0)


_LOOKING_AROUND = Hold(
    HoldKind.COMMANDER, "looking whether controllers listen and no other node commands them"
)
