"""Which requests give way to a newer one of their session, on a link that carries several at once.

Pure: no clock, no socket. The rule of the compiled client, `quic/client/lines.rs`.

A request that waits (for a connection, or for a server that is not ready) gives way to a newer one.
Of those that are being sent, the oldest stays: on a link that is slower than its robot no request
would ever arrive otherwise. Once the server has all of a request, the server decides.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Lines", "Progress"]

T = TypeVar("T")


class Progress(enum.Enum):
    """How far a request has come."""

    WAITS = "waits for a connection, or for a server that gets ready"
    IS_SENT = "is being sent"
    HAS_ARRIVED = "the server has all of it"


@dataclass(eq=False)
class _Entry(Generic[T]):
    request: T
    progress: Progress = Progress.WAITS


class Lines(Generic[T]):
    """The requests of each session that are under way, oldest first, recognised by identity."""

    def __init__(self) -> None:
        self._lines: dict[str, list[_Entry[T]]] = {}

    def requests(self, session: str, progress: Progress) -> list[T]:
        """Those of a session that have come so far."""
        return [e.request for e in self._lines.get(session, ()) if e.progress is progress]

    def enter(self, session: str, request: T) -> list[T]:
        """Adds the newest request of a session; returns those that give way."""
        line = self._lines.get(session, [])
        sent = [entry for entry in line if entry.progress is Progress.IS_SENT]
        gone = [
            entry
            for entry in line
            if entry.progress is Progress.WAITS or any(entry is other for other in sent[1:])
        ]
        self._lines[session] = [entry for entry in line if entry not in gone] + [_Entry(request)]
        return [entry.request for entry in gone]

    def note(self, session: str, request: T, progress: Progress) -> bool:
        """Notes how far a request has come.

        Returns:
            Whether it stays; False where it waits again, and gives way to a newer one.
        """
        line = self._lines.get(session, [])
        for place, entry in enumerate(line):
            if entry.request is request:
                if progress is Progress.WAITS and place + 1 < len(line):
                    del line[place]
                    return False
                entry.progress = progress
                return True
        return False

    def leave(self, session: str, request: T) -> None:
        """The request is over. It may have given way before."""
        line = [e for e in self._lines.get(session, ()) if e.request is not request]
        if line:
            self._lines[session] = line
        else:
            self._lines.pop(session, None)
