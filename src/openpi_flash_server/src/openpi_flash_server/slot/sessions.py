"""Which clients use which session, so that a session ends with its last client. Pure."""

from __future__ import annotations

from collections import OrderedDict

from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.session import Session

MAX_SESSIONS = 4096
"""A client may name a new session in every request: the one unused for longest ends first."""


class Sessions:
    """The sessions of one slot.

    Args:
        limit: how many are kept.
    """

    def __init__(self, limit: int = MAX_SESSIONS) -> None:
        self._limit = limit
        # in the order of their last use
        self._clients: OrderedDict[Session, set[Client]] = OrderedDict()
        self._sessions: dict[Client, set[Session]] = {}

    def used(self, session: Session, client: Client) -> list[Session]:
        """`client` sent a request of `session`; returns the sessions that end for lack of room."""
        self._clients.setdefault(session, set()).add(client)
        self._clients.move_to_end(session)
        self._sessions.setdefault(client, set()).add(session)
        ended = []
        while len(self._clients) > self._limit:
            oldest, clients = self._clients.popitem(last=False)
            for one in clients:
                self._forget(one, oldest)
            ended.append(oldest)
        return ended

    def left(self, client: Client) -> list[Session]:
        """`client` disconnected; returns the sessions that end with it."""
        ended = []
        for session in self._sessions.pop(client, ()):
            clients = self._clients[session]
            clients.discard(client)
            if not clients:
                del self._clients[session]
                ended.append(session)
        return ended

    def _forget(self, client: Client, session: Session) -> None:
        sessions = self._sessions[client]
        sessions.discard(session)
        if not sessions:
            del self._sessions[client]
