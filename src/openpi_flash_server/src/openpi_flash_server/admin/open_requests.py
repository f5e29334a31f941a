"""Which requests of a slot wait and which run, from its events. Pure."""

from __future__ import annotations

from openpi_flash_server.slot.events import (
    Answered,
    Dropped,
    Event,
    Received,
    SessionEnded,
    Started,
)
from openpi_flash_server.slot.session import Session


class OpenRequests:
    """The requests of one slot that have not ended."""

    def __init__(self) -> None:
        self._received: dict[int, Received] = {}
        self._started: set[int] = set()
        self._sessions: set[Session] = set()

    def take(self, event: Event) -> Received | None:
        """Takes one event into account; returns how the request came that ends with it."""
        match event:
            case Received():
                self._received[event.request] = event
            case Started(requests=requests):
                for number in requests:
                    if number in self._received:
                        self._started.add(number)
                        self._sessions.add(self._received[number].session)
            case Dropped(request=number) | Answered(request=number):
                self._started.discard(number)
                return self._received.pop(number, None)
            case SessionEnded(session=session):
                self._sessions.discard(session)
        return None

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._received) - len(self._started)

    @property
    def running(self) -> int:
        """How many run, some of them perhaps in part."""
        return len(self._started)

    @property
    def sessions(self) -> int:
        """How many sessions had a request run and have not ended."""
        return len(self._sessions)
