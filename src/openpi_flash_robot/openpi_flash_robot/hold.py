"""The reason why the robot holds: one type for every cause, from a missing image to a bad chunk."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class HoldKind(enum.Enum):
    """The causes, by what has to change for the robot to move again."""

    WAITING = "waiting"
    """Nothing is wrong; the first chunk is not there yet."""
    OBSERVATION = "observation"
    """Images or joint positions are missing, stale or too far apart in time."""
    EXHAUSTED = "exhausted"
    """The running chunk has ended, or the observation behind it is too old."""
    LATE = "late"
    """The answer came after its deadline, or has not come yet."""
    BAD_CHUNK = "bad_chunk"
    """The chunk has a wrong shape, a value that is not finite, or a wrong time stamp."""
    START_JUMP = "start_jump"
    """The chunk starts too far from where the robot is."""
    REFUSED = "refused"
    """The server answered with an error."""
    TRACKING = "tracking"
    """The arm does not do what it is told; a person must look, then call ~/reset."""
    COMMANDER = "commander"
    """Nobody listens to the controller's topic, or another node commands the controller too."""
    EMERGENCY_STOP = "emergency_stop"
    """An emergency stop is pressed, or not heard; a person must look, then call ~/reset."""
    TAKEOVER = "takeover"
    """A person commands the robot by teleoperation."""
    CLOCK = "clock"
    """ROS time stands still: nobody publishes /clock."""
    LINK = "link"
    """There is no connection to the server."""
    REQUESTED = "requested"
    """Someone asked for it: ~/hold, ~/pause, ~/reset, a new prompt."""
    INACTIVE = "inactive"
    """The node is not active, or is shutting down."""


@dataclass(frozen=True)
class Hold:
    """The reason to hold position.

    Attributes:
        kind: for the program.
        message: for a person; names the thing, the value and the limit.
    """

    kind: HoldKind
    message: str
