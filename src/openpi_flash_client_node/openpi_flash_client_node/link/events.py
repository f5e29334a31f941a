"""What the link to the server reports, as plain data."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class FailureKind(enum.Enum):
    """Why one request came to nothing, by whose fault it is."""

    TIMEOUT = "timeout"
    """Nobody's: the answer did not come in time."""
    SUPERSEDED = "superseded"
    """Nobody's: a newer observation took its place on the server."""
    SERVER = "server"
    """The server's, or the request's: it answered with an error."""
    PREPARE = "prepare"
    """Ours, or a camera's: the request could not be put together."""
    LINK = "link"
    """The connection was lost; a `LinkDown` follows."""


@dataclass(frozen=True, eq=False)
class LinkUp:
    """There is a connection, and the server has introduced itself."""

    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class LinkDown:
    """There is no connection; the link goes on trying.

    Attributes:
        message: why, for a person.
        needs_human: trying again will not help: a key or a certificate is wrong.
    """

    message: str
    needs_human: bool = False


@dataclass(frozen=True)
class RequestCost:
    """What the link counted.

    Attributes:
        serialize_s: packing the request into one message.
        bytes_up: of the request.
        bytes_down: of the answer.
    """

    serialize_s: float
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True, eq=False)
class RequestDone:
    """An answer has come.

    Attributes:
        request_id: of the request.
        result: as the server sent it; not checked.
        preprocess_s: decoding and resizing of its images.
        total_s: from handing the request to the link to holding the answer.
        cost: what the link counted on the way.
    """

    request_id: int
    result: Mapping[str, Any]
    preprocess_s: float
    total_s: float
    cost: RequestCost


@dataclass(frozen=True)
class RequestFailure:
    """A request came to nothing."""

    request_id: int
    kind: FailureKind
    message: str


@dataclass(frozen=True)
class ResetFailed:
    """The server would not forget the policy's state."""

    message: str


LinkEvent = LinkUp | LinkDown | RequestDone | RequestFailure | ResetFailed
