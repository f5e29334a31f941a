"""When a gripper that takes goals, not a stream, is given the next one."""

from __future__ import annotations

LEAST_CHANGE = 0.01
"""Share of what the gripper can do; a smaller change is not worth a goal."""

PAUSE_NS = 200_000_000
"""At most five goals a second: each one ends the one before."""


DIGITS = 6
"""Of a goal, in rad or m: a motion ends within its limits but for 1e-11, and drivers refuse a goal
that is beyond the gripper's range by as little."""


class GripperGoals:
    """Remembers the last goal of one gripper."""

    def __init__(self, width: float) -> None:
        """Begin with no goal.

        Args:
            width: from closed to open, in the axis's unit; 0 where it is not known.
        """
        self._least = LEAST_CHANGE * (abs(width) or 1.0)
        self._last: float | None = None
        self._not_before_ns = 0

    def next(self, now: int, position: float) -> float | None:
        """The goal to send now; None if the last one is still right, or too young.

        Args:
            now: this moment.
            position: where the gripper is commanded to be.
        """
        position = round(position, DIGITS) + 0.0  # no -0.0
        if self._last is not None and abs(position - self._last) < self._least:
            return None
        if 0 < self._not_before_ns - now <= PAUSE_NS:  # more: the clock was set back
            return None
        self._last, self._not_before_ns = position, now + PAUSE_NS
        return position

    def forget(self) -> None:
        """The last goal did not reach the gripper."""
        self._last = None
