"""Why an inference moved nothing."""

from __future__ import annotations

import enum

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.link.events import FailureKind
from openpi_flash_robot.play.plan import Plan


class DropReason(enum.IntEnum):
    """The numbers of InferenceStats's DROP_ constants; a test holds them equal."""

    NONE = 0
    LATE = 1
    MALFORMED = 2
    TIMEOUT = 3
    SERVER_ERROR = 4
    OLDER_THAN_HOLD = 5
    START_JUMP = 6
    STOPPED = 7
    INPUTS = 8
    LINK = 9
    COMMANDER = 10
    SUPERSEDED = 11
    OTHER = 12


def drop_reason(outcome: Plan | Hold | FailureKind | None) -> DropReason:
    """Why this end of an inference moves nothing; `NONE` if it moves the robot.

    Args:
        outcome: the plan that its chunk has become, the reason to hold instead, how the request
            failed; None: its observation is from before the robot came to hold.
    """
    if outcome is None:
        return DropReason.OLDER_THAN_HOLD
    if isinstance(outcome, Plan):
        return DropReason.NONE
    if isinstance(outcome, FailureKind):
        return _FAILURES[outcome]
    return _HOLDS.get(outcome.kind, DropReason.OTHER)


_FAILURES = {
    FailureKind.TIMEOUT: DropReason.TIMEOUT,
    FailureKind.SUPERSEDED: DropReason.SUPERSEDED,
    FailureKind.SERVER: DropReason.SERVER_ERROR,
    FailureKind.PREPARE: DropReason.INPUTS,
    FailureKind.LINK: DropReason.LINK,
}
_HOLDS = {
    HoldKind.LATE: DropReason.LATE,
    HoldKind.EXHAUSTED: DropReason.LATE,
    HoldKind.BAD_CHUNK: DropReason.MALFORMED,
    HoldKind.START_JUMP: DropReason.START_JUMP,
    HoldKind.REQUESTED: DropReason.STOPPED,
    HoldKind.OBSERVATION: DropReason.INPUTS,
    HoldKind.COMMANDER: DropReason.COMMANDER,
}
