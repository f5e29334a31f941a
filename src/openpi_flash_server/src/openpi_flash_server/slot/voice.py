"""Gives a slot's answers to whoever waits for them, and tells its listeners what happens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.slot import events
from openpi_flash_server.slot.answer import Answer
from openpi_flash_server.slot.events import Answered, AnswerLost, Event, Timing
from openpi_flash_server.slot.failures import dropped
from openpi_flash_server.slot.scheduler import Dropped
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.ticket import Ticket

log = EventLogger(__name__)

Listener = Callable[[Event], None]


class Voice:
    """What one slot says. May be used from any thread.

    Args:
        slot: its name.
        clock: monotonic seconds.
    """

    def __init__(self, slot: str, clock: Callable[[], float]) -> None:
        self._slot = slot
        self._clock = clock
        self._listeners: list[Listener] = []
        self._telling = threading.Lock()

    def subscribe(self, listener: Listener) -> None:
        """Tells `listener` every event from now on, one at a time."""
        with self._telling:
            self._listeners.append(listener)

    def tell(self, event: Event) -> None:
        """Tells every listener; one that fails harms no other."""
        with self._telling:
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception as error:
                    log.error("listener failed", exception=error, slot=self._slot)

    def answer(
        self,
        request: int,
        session: Session,
        answer: Answer,
        respond: Callable[[Answer], None],
        timing: Timing | None = None,
    ) -> None:
        """Tells that a request is answered, and answers it."""
        self.tell(Answered(self._clock(), request, session, answer, timing))
        self.respond(request, session, answer, respond)

    def drop(self, request: int, drop: Dropped[Ticket]) -> None:
        """Tells that a request is not run, and answers it."""
        ticket, failure = drop.request, dropped(drop.reason)
        self.tell(events.Dropped(self._clock(), request, ticket.session, drop.reason, failure))
        self.respond(request, ticket.session, failure, ticket.respond)

    def begin(
        self,
        request: int,
        session: Session,
        first: dict[str, Any],
        respond_first: Callable[[dict[str, Any]], None],
    ) -> None:
        """Hands over first actions; that they cannot be taken harms nobody: the answer follows."""
        try:
            respond_first(first)
        except Exception as error:
            self.tell(AnswerLost(self._clock(), request, session, error))

    def respond(
        self, request: int, session: Session, answer: Answer, respond: Callable[[Answer], None]
    ) -> None:
        """Hands over an answer; that it cannot be taken harms nobody else."""
        try:
            respond(answer)
        # a fault of one request's transport must not end the thread
        except Exception as error:
            self.tell(AnswerLost(self._clock(), request, session, error))
