"""Which requests a newer one of their session supersedes, on a link that carries several at once.

Pure: no clock, no socket. The same rule as in the compiled client, `quic/client/lines.rs`.

A request that waits (for a connection, or for a server that is not ready) is superseded. Of the
requests that are being sent, the oldest stays: on a link that is slower than its robot no request
would ever arrive otherwise. Once the server has all of a request, the server decides.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Lines", "Progress"]

T = TypeVar("T")


class Progress(enum.Enum):
    """How far a request has got."""

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
        """The requests of a session with this progress."""
        return [e.request for e in self._lines.get(session, ()) if e.progress is progress]

    def enter(self, session: str, request: T) -> list[T]:
        """Adds the newest request of a session; returns those that it supersedes."""
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
        """Notes how far a request has got.

        Returns:
            Whether it stays; False if it waits again and a newer one supersedes it.
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
        """Removes a finished request. It may have been superseded before."""
        line = [e for e in self._lines.get(session, ()) if e.request is not request]
        if line:
            self._lines[session] = line
        else:
            self._lines.pop(session, None)
