"""trajectory_msgs/JointTrajectory, written in one piece.

rclpy makes an object of each point, with arrays and a duration, and copies each value of them; a
window of motion has about fifteen points, and fifty windows a second are sent.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from openpi_flash_robot.nanoseconds import SECOND, split
from openpi_flash_robot.play.trajectory import Trajectory

LITTLE_ENDIAN = b"\x00\x01\x00\x00"
STAMP = struct.Struct("<iI")
COUNT = struct.Struct("<I")


class JointTrajectoryWriter:
    """Writes the trajectories of one controller."""

    def __init__(self, joints: Sequence[str]) -> None:
        """Write what all of them have in common.

        Args:
            joints: names of the columns, at least one.

        Raises:
            ValueError: there is none.
        """
        if not joints:
            raise ValueError("a joint trajectory needs at least one joint")
        names = _string("") + _padding(STAMP.size + len(_string("")), 4) + COUNT.pack(len(joints))
        for joint in joints:
            names += _padding(STAMP.size + len(names), 4) + _string(joint)
        self._names = names + _padding(STAMP.size + len(names), 4)
        columns = len(joints)
        self._point = np.dtype(
            [
                ("positions_count", "<u4"),
                ("positions_room", "<u4"),
                ("positions", "<f8", (columns,)),
                ("velocities_count", "<u4"),
                ("velocities_room", "<u4"),
                ("velocities", "<f8", (columns,)),
                ("accelerations_count", "<u4"),
                ("effort_count", "<u4"),
                ("sec", "<i4"),
                ("nanosec", "<u4"),
            ]
        )
        # every point ends at a multiple of 8 bytes, where the next one's count needs room behind
        # it; the first one may begin between two of them
        points_at = STAMP.size + len(self._names) + COUNT.size
        self._needs_no_room = points_at % 8 == COUNT.size

    def write(self, trajectory: Trajectory) -> bytes:
        """The serialized message; a stamp of zero means: start at reception.

        Args:
            trajectory: its columns are this controller's joints.
        """
        points = np.zeros(len(trajectory.times_ns), self._point)
        columns = trajectory.positions.shape[1]
        points["positions_count"] = points["velocities_count"] = columns
        points["positions"], points["velocities"] = trajectory.positions, trajectory.velocities
        points["sec"], points["nanosec"] = np.divmod(trajectory.times_ns, SECOND)
        written = points.tobytes()
        if self._needs_no_room:
            written = written[: COUNT.size] + written[2 * COUNT.size :]
        stamp = STAMP.pack(*split(trajectory.start_ns or 0))
        return b"".join([LITTLE_ENDIAN, stamp, self._names, COUNT.pack(len(points)), written])


def _string(text: str) -> bytes:
    encoded = text.encode() + b"\x00"
    return COUNT.pack(len(encoded)) + encoded


def _padding(length: int, size: int) -> bytes:
    return bytes(-length % size)
