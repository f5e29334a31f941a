"""Why the robot does not move: one type for every cause, from a silent camera to a bad chunk."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class HoldKind(enum.Enum):
    """The causes, by what has to change for the robot to move again."""

    WAITING = "waiting"
    """Nothing is wrong; the first chunk is not there yet."""
    OBSERVATION = "observation"
    """A camera or the joints are silent, old, or not of the same moment."""
    EXHAUSTED = "exhausted"
    """The running chunk has ended, or the observation behind it is too old."""
    LATE = "late"
    """The answer came, or is still to come, after it was of use."""
    BAD_CHUNK = "bad_chunk"
    """The answer is no chunk for this robot: shape, NaN, time stamps."""
    START_JUMP = "start_jump"
    """The chunk starts too far from where the robot is."""
    REFUSED = "refused"
    """The server answered with an error."""
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
