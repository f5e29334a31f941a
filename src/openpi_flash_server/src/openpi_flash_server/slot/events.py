"""What happens to the requests of a slot, as data, for whoever subscribes.

Every request is `Received` and then ends once: `Dropped` or `Answered`. A listener runs on the
thread on which the event occurred: it must return at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from openpi_flash_server.slot.answer import Answer, Failure
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.scheduler import DropReason
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.work import Work


@dataclass(frozen=True, slots=True)
class Received:
    """A request has arrived completely.

    Attributes:
        at: monotonic s.
        request: number of the request in its slot, from 1.
        session: whose.
        works: what it asks for; empty if it could not be read.
        client: who sent it.
    """

    at: float
    request: int
    session: Session
    works: tuple[Work, ...]
    client: Client


@dataclass(frozen=True, slots=True)
class Dropped:
    """A request ended without having been run.

    Attributes:
        at: monotonic s.
        request: its number.
        session: whose.
        reason: why.
        answer: what its client got.
    """

    at: float
    request: int
    session: Session
    reason: DropReason
    answer: Failure


@dataclass(frozen=True, slots=True)
class Started:
    """A batch began to run.

    Attributes:
        at: monotonic s.
        requests: the numbers of its requests.
        size: number of its observations.
    """

    at: float
    requests: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a request took.

    Attributes:
        queue_ms: waiting for its turn, apart from decoding.
        decode_ms: decoding the message and its images.
        infer_ms: the calls of the handler that ran it.
        batch_size: observations in the largest of them.
        first_ms: from its arrival to its first actions; None if none came ahead.
    """

    queue_ms: float
    decode_ms: float
    infer_ms: float
    batch_size: int
    first_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A request was answered: by the model, or because it could not be run.

    Attributes:
        at: monotonic s.
        request: its number.
        session: whose.
        answer: what its client got.
        timing: None if it was not run to its end.
    """

    at: float
    request: int
    session: Session
    answer: Answer
    timing: Timing | None


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """The transport could not take an answer.

    Attributes:
        at: monotonic s.
        request: its number.
        session: whose.
        error: what the transport raised.
    """

    at: float
    request: int
    session: Session
    error: Exception


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The last client of a session left.

    Attributes:
        at: monotonic s.
        session: which.
    """

    at: float
    session: Session


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A batch ran for too long: its requests fail, and no others are taken.

    Attributes:
        at: monotonic s.
        requests: the numbers of its requests.
        reason: what its clients are told.
    """

    at: float
    requests: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class CameBack:
    """The batch that was given up has ended, and requests are taken again.

    Attributes:
        at: monotonic s.
    """

    at: float


SlotEvent = Started | GivenUp | CameBack
"""Of several sessions, or of none."""

SessionEvent = Received | Dropped | Answered | AnswerLost | SessionEnded
"""Of one session."""

Event = SlotEvent | SessionEvent
