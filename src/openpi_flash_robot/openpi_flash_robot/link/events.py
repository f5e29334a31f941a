"""The events of the link to the server, as plain data."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class FailureKind(enum.Enum):
    """Why one request failed."""

    TIMEOUT = "timeout"
    """The answer did not come in time."""
    SUPERSEDED = "superseded"
    """A newer observation of the session took its place on the server."""
    SERVER = "server"
    """The server answered with an error."""
    PREPARE = "prepare"
    """The request could not be built, for example from an image that cannot be decoded."""
    LINK = "link"
    """The connection was lost; a `LinkDown` follows."""


@dataclass(frozen=True, eq=False)
class LinkUp:
    """There is a connection, and the server has sent its metadata."""

    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class TransportUsed:
    """Requests go over this transport from now on.

    Attributes:
        name: `quic` or `websocket`.
        reason: why, for a person.
        is_change: whether they went over another one before.
    """

    name: str
    reason: str
    is_change: bool


@dataclass(frozen=True)
class LinkDown:
    """There is no connection; the link goes on trying.

    Attributes:
        message: why, for a person.
        needs_human: connecting again cannot help: a key or a certificate is wrong.
    """

    message: str
    needs_human: bool = False


@dataclass(frozen=True)
class RequestCost:
    """What one call cost.

    Attributes:
        serialize_s: packing the request into one message.
        bytes_up: of the request.
        bytes_down: of the answer.
        jpeg_quality: of its images; 0: they were raw.
        link_rate: bits per second, when the images were encoded; NaN: not measured.
        link_queue: seconds of other traffic that it had to wait for then; NaN: not measured.
        image_news: why images are JPEG from now on, or raw again; else empty.
    """

    serialize_s: float
    bytes_up: int
    bytes_down: int
    jpeg_quality: int = 0
    link_rate: float = math.nan
    link_queue: float = math.nan
    image_news: str = ""


@dataclass(frozen=True, eq=False)
class FirstActionsCame:
    """The first actions of an answer have come; the answer or its failure follows.

    Attributes:
        request_id: of the request.
        result: `actions` with as many steps as were asked for; not checked.
    """

    request_id: int
    result: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class RequestDone:
    """An answer has come.

    Attributes:
        request_id: of the request.
        result: as the server sent it; not checked.
        preprocess_s: decoding and resizing of its images.
        total_s: from handing the request to the link to holding the answer.
        cost: of the call.
    """

    request_id: int
    result: Mapping[str, Any]
    preprocess_s: float
    total_s: float
    cost: RequestCost


@dataclass(frozen=True)
class RequestFailure:
    """A request failed."""

    request_id: int
    kind: FailureKind
    message: str


@dataclass(frozen=True)
class ResetFailed:
    """The server could not reset the policy."""

    message: str


LinkEvent = (
    LinkUp
    | TransportUsed
    | LinkDown
    | FirstActionsCame
    | RequestDone
    | RequestFailure
    | ResetFailed
)
