"""The failures that clients get: of exceptions, and of requests that are not run."""

from __future__ import annotations

import traceback

from openpi_flash_models.errors import ObservationError
from openpi_flash_server.logs.outside_text import shown, shown_lines
from openpi_flash_server.slot.answer import ErrorCode, Failure, RequestFailed
from openpi_flash_server.slot.scheduler import DropReason


def failure_of(error: BaseException) -> Failure:
    """The answer to a request whose work raised `error`."""
    if isinstance(error, RequestFailed):
        return error.failure
    if isinstance(error, ObservationError):
        return bad_request(error)
    return internal(error)


def bad_request(error: Exception) -> Failure:
    """The answer to a request that cannot be used; the error names the key."""
    return Failure(ErrorCode.BAD_REQUEST, shown(str(error)), _traceback(error))


def internal(error: BaseException) -> Failure:
    """The answer to a fault of the server: one line; the log has the rest."""
    lines = str(error).strip().split("\n", 1)
    name = type(error).__name__
    message = shown(f"{name}: {lines[0]}" if lines[0] else name)
    return Failure(ErrorCode.INTERNAL, message, _traceback(error), error)


def dropped(reason: DropReason) -> Failure:
    """The answer to a request that is not run."""
    return Failure(*_DROPPED[reason])


SESSION_HELD = Failure(
    ErrorCode.NOT_READY,
    "another connection holds this session by its session_token: send the same session_token, name "
    "another session, or try again when that connection has ended",
)
"""The answer to a request or a reset of a session that its client may not use."""


def _traceback(error: BaseException) -> str:
    return shown_lines("".join(traceback.format_exception(error)))


_DROPPED = {
    DropReason.SUPERSEDED: (
        ErrorCode.SUPERSEDED,
        "a newer observation of this session took this one's place",
    ),
    DropReason.DEADLINE_EXCEEDED: (
        ErrorCode.DEADLINE_EXCEEDED,
        "waited longer than deadline_ms",
    ),
    DropReason.CANCELLED: (ErrorCode.SUPERSEDED, "the client does not want this answer any more"),
    DropReason.FULL: (
        ErrorCode.NOT_READY,
        "too many sessions are waiting already",
    ),
}
