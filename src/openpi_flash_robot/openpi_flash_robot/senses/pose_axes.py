"""The measured pose of an end effector as positions of its axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openpi_flash_robot.senses.rotation import continued, rotation_numbers
from openpi_flash_robot.settings.node_settings import PoseInput
from openpi_flash_robot.settings.state_inputs import Rotation

LONGEST = 1.75 * np.pi
"""rad; a rotation vector near a whole turn changes fast when the hand turns a little. Beyond this
the shortest one of the same rotation is taken, and a robot that moves stops."""


class PoseAxes:
    """Makes six numbers of each pose, which go on from those before.

    Attributes:
        names: of the axes, [6].
        problem: what is wrong with the newest pose; empty if nothing is.
    """

    def __init__(self, pose: PoseInput) -> None:
        self._pose = pose
        self.names = pose.axes
        self.problem = ""
        self._vector = np.zeros(3)

    def values(
        self, position: Sequence[float], quaternion: Sequence[float], frame: str
    ) -> tuple[float, ...]:
        """x, y, z and the rotation vector, [6]; none if they cannot be used.

        Args:
            position: m.
            quaternion: x, y, z, w.
            frame: in which they count.
        """
        self.problem = ""
        if frame.lstrip("/") != self._pose.frame.lstrip("/"):
            self.problem = (
                f"the pose on {self._pose.source} is in frame {frame!r}, expected "
                f"{self._pose.frame!r}; set controller.{self._pose.controller}.frame, or take "
                "child_frame in place of pose_topic"
            )
            return ()
        vector = rotation_numbers(quaternion, Rotation.ROTVEC)
        if not np.isfinite(vector).all():
            self.problem = f"the pose on {self._pose.source} has no rotation: its quaternion is 0"
            return ()
        going_on = continued(vector[np.newaxis], self._vector)[0]
        self._vector = vector if np.linalg.norm(going_on) > LONGEST else going_on
        return (*map(float, position), *self._vector.tolist())
