"""A request in the server: its work, and the client that waits for the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from openpi_flash_server.slot.answer import Answer
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.encoded_images import holds_images
from openpi_flash_server.slot.session import PlanSession, Session
from openpi_flash_server.slot.work import Work


@dataclass(frozen=True, eq=False, slots=True)
class Ticket:
    """One request. Tickets are compared by identity.

    Attributes:
        works: what to compute, one for each observation; one, unless the request holds a batch.
        is_batch: whether the answer has a leading axis [B], also if B is 1.
        client: who asks.
        received_at: when the last byte had come, monotonic s.
        decode_ms: how long decoding the message took, without its images.
        deadline: when waiting is no longer worth it, monotonic s; None for never.
        respond: takes the answer; called once, from any thread; must not block.
        is_cancelled: whether the client no longer waits for the answer.
        respond_first: takes the first actions, {"actions": [first_actions, D]}, before the answer
            and at most once, from any thread; must not block. None where they cannot be sent ahead.
        session_token: what the session is held by; None if the client gave none.
        session: at most one request of a session waits.
        rank: of its class; 0 comes first.
        is_awaited: whether something stands still without the answer; false where a subtask is
            refreshed.
        owner: who shares the device and the places: an API key, a computer, and its connection.
        has_encoded_images: whether images of its first observation are to be decoded.
    """

    works: tuple[Work, ...]
    is_batch: bool
    client: Client
    received_at: float
    decode_ms: float
    deadline: float | None
    respond: Callable[[Answer], None]
    is_cancelled: Callable[[], bool]
    respond_first: Callable[[dict[str, Any]], None] | None = None
    session_token: str | None = field(default=None, repr=False)
    # the scheduler asks for them some ten times for each request
    session: Session = field(init=False)
    rank: int = field(init=False)
    is_awaited: bool = field(init=False)
    owner: tuple[int, str, str] = field(init=False)
    has_encoded_images: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "session", self.work.session)
        object.__setattr__(self, "rank", self.work.request_class.rank)
        session = self.session
        is_awaited = not isinstance(session, PlanSession) or session.is_awaited
        object.__setattr__(self, "is_awaited", is_awaited)
        client = self.client
        object.__setattr__(self, "owner", (client.key, client.network, client.name))
        object.__setattr__(self, "has_encoded_images", holds_images(self.work.observation))

    @property
    def work(self) -> Work:
        """The first observation's; the works of a request differ in observation and controls."""
        return self.works[0]

    @property
    def size(self) -> int:
        """Number of observations."""
        return len(self.works)

    def at_start(self, work: Work, now: float) -> Work:
        """One of `works` with its times as a runner counts them."""
        if self.deadline is None and work.received_at == self.received_at:
            return work
        deadline_ms = None if self.deadline is None else (self.deadline - now) * 1000
        return replace(work, deadline_ms=deadline_ms, received_at=self.received_at)
