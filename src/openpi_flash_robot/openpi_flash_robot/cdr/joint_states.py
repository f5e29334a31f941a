"""sensor_msgs/JointState."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from openpi_flash_robot.cdr.reader import ENCAPSULATION, CdrReader

STAMP_END = ENCAPSULATION + 8
"""Where the rest of the header begins."""


@dataclass(frozen=True, eq=False)
class JointStates:
    """What is used of a sensor_msgs/JointState.

    Attributes:
        stamp_ns: of the header; 0 if it was never set.
        name: of the joints.
        position: float64, rad or m; may be shorter than `name`, or empty, as the others.
        velocity: float64, rad/s or m/s.
        effort: float64, N m or N.
    """

    stamp_ns: int
    name: Sequence[str]
    position: array[float]
    velocity: array[float]
    effort: array[float]


class JointStateReader:
    """Reads the messages of one topic; names are read again only where they have changed."""

    def __init__(self) -> None:
        self._kind = self._names_bytes = b""
        self._names: tuple[str, ...] = ()

    def read(self, message: bytes) -> JointStates:
        """A serialized sensor_msgs/JointState.

        Raises:
            CdrError: it is not one.
        """
        reader = CdrReader(message)
        stamp_ns = reader.stamp()
        known = self._names_bytes
        if known and message.startswith(known, STAMP_END) and message.startswith(self._kind):
            reader.skip_to(STAMP_END + len(known))
        else:
            reader.string()  # header.frame_id
            self._names = reader.strings()
            self._kind, self._names_bytes = message[:2], message[STAMP_END : reader.at]
        return JointStates(
            stamp_ns, self._names, reader.doubles(), reader.doubles(), reader.doubles()
        )
