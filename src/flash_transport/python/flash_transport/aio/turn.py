"""A submitted request among the others of its session."""

from __future__ import annotations

import asyncio

from flash_transport.aio.lines import Lines, Progress
from flash_transport.aio.link import Link
from flash_transport.errors import Superseded

__all__ = ["Turn", "superseded"]


class Turn:
    """A submitted request, which a newer one of its session may supersede.

    Args:
        lines: the requests under way of all sessions.
        session: its session.
    """

    def __init__(self, lines: Lines[Turn], session: str) -> None:
        self._lines = lines
        self._session = session
        self._task = asyncio.current_task()
        self._sent: tuple[Link, int] | None = None
        self.is_superseded = False

    def waits(self) -> None:
        """Notes that the request waits to be sent, for the first time or again.

        Raises:
            Superseded: there is a newer one.
        """
        self._sent = None
        if not self._lines.note(self._session, self, Progress.WAITS):
            raise superseded()

    def is_sent(self, link: Link, stream: int) -> None:
        """Notes that the request is being sent on this stream."""
        self._sent = (link, stream)
        self._lines.note(self._session, self, Progress.IS_SENT)

    def note_arrival(self) -> None:
        """Notes that all of the request has been sent, if it has."""
        if self._sent is not None and self._sent[0].has_left(self._sent[1]):
            self._lines.note(self._session, self, Progress.HAS_ARRIVED)

    def supersede(self) -> None:
        """Removes the finished request."""
        if self._task is not None:
            self.is_superseded = True
            self._task.cancel()


def superseded() -> Superseded:
    """The error of a request that a newer one superseded."""
    return Superseded(
        "a newer observation of the session took this one's place before the server had all of it"
    )
