"""Answers to requests, as slots give them and transports send them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any


class ErrorCode(enum.StrEnum):
    """The error codes on the wire; each says whose fault it is and whether to try again."""

    BAD_REQUEST = "bad_request"
    """The caller's: the same message will fail again."""
    UNAUTHENTICATED = "unauthenticated"
    """The caller's: no api key, or a wrong one."""
    SUPERSEDED = "superseded"
    """Nobody's: a newer observation of the same session took this one's place."""
    DEADLINE_EXCEEDED = "deadline_exceeded"
    """Nobody's: it waited longer than the request's `deadline_ms`."""
    NOT_READY = "not_ready"
    """The operator's: warming up, shutting down, or full. Try again later."""
    INTERNAL = "internal"
    """Ours: the server's log says more."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: the map for the wire, without the values that only the transport knows."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is an error.

    Attributes:
        code: for the client's program.
        message: for a person; names the cause.
        traceback: the server's, or empty; a transport sends it to openpi's own client only.
        cause: the exception, for the log; None if there was none, or it was raised in another
            process.
    """

    code: ErrorCode
    message: str
    traceback: str = ""
    cause: BaseException | None = field(default=None, compare=False, repr=False)


Answer = Reply | Failure


class RequestFailed(Exception):  # noqa: N818 - the fact that a request failed, carried up to the slot
    """A handler raises it to answer with a failure that it got from another slot.

    Attributes:
        failure: the answer.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return f"{self.failure.code}: {self.failure.message}"
