"""How long a robot that ran out of chunks waits for the next one before a person must look.

A robot that stands for long looks switched off to the people beside it; it must not start again
when a server comes back.
"""

from __future__ import annotations

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.nanoseconds import to_seconds

STARVED = frozenset(
    {
        HoldKind.OBSERVATION,
        HoldKind.EXHAUSTED,
        HoldKind.LATE,
        HoldKind.BAD_CHUNK,
        HoldKind.START_JUMP,
        HoldKind.REFUSED,
        HoldKind.LINK,
        HoldKind.COMMANDER,
    }
)
"""What ends by itself, perhaps much later."""


class Patience:
    """Knows since when a robot that has moved stands, without anybody having asked for it."""

    def __init__(self, fault_after_ns: int) -> None:
        """Begin with a robot that has not moved.

        Args:
            fault_after_ns: `fault_after`; 0 waits for ever.
        """
        self.fault_after_ns = fault_after_ns
        self._has_moved = False
        self._since_ns: int | None = None

    def forget(self) -> None:
        """A person has started or stopped the robot."""
        self._has_moved, self._since_ns = False, None

    def move(self) -> None:
        """A chunk is played."""
        self._has_moved, self._since_ns = True, None

    def wait(self, now: int, reason: Hold) -> Hold | None:
        """The robot holds; what a person must look at, if it has done so for too long.

        Args:
            now: this moment.
            reason: why it holds.
        """
        if not self._has_moved or reason.kind not in STARVED:
            return None
        if self._since_ns is None or now < self._since_ns:
            self._since_ns = now
        if not self.fault_after_ns or now - self._since_ns < self.fault_after_ns:
            return None
        waited_s = to_seconds(self.fault_after_ns)
        return Hold(
            reason.kind,
            f"stood for {waited_s:g} s (fault_after) without a chunk to play: {reason.message}; "
            "call ~/reset to go on",
        )
