"""The one unit of time inside the node: integer nanoseconds on the ROS clock."""

from __future__ import annotations

SECOND = 1_000_000_000


def from_seconds(seconds: float) -> int:
    """Whole nanoseconds, rounded to the nearest."""
    return round(seconds * SECOND)


def to_seconds(nanoseconds: int) -> float:
    """Seconds, for messages and arithmetic with velocities."""
    return nanoseconds / SECOND


def from_stamp(sec: int, nanosec: int) -> int:
    """The two fields of a builtin_interfaces Time or Duration as one number."""
    return sec * SECOND + nanosec


def split(nanoseconds: int) -> tuple[int, int]:
    """The fields `sec` and `nanosec` of a builtin_interfaces Time or Duration."""
    return divmod(nanoseconds, SECOND)
