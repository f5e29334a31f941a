"""Which clients use which session, and which hold theirs by a token. Pure.

A session ends with its last client. One that a client names with a token is held: other clients
need the token to use it, until the holder's connection has ended or let it rest for `REST`.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.session import Session

MAX_SESSIONS = 4096
"""A client may name a new session in every request: the one unused for longest ends first."""

REST = 60.0
"""s without a request, after which a session is held no longer: a robot that lost its power and its
token need not wait until the server notices that its old connection is gone."""


@dataclass(slots=True)
class _Use:
    clients: set[Client] = field(default_factory=set)
    token: str | None = None
    last_at: float = 0.0


class Sessions:
    """The sessions of one slot.

    Args:
        limit: how many are kept.
    """

    def __init__(self, limit: int = MAX_SESSIONS) -> None:
        self._limit = limit
        # in the order of their last use
        self._uses: OrderedDict[Session, _Use] = OrderedDict()
        self._sessions: dict[Client, set[Session]] = {}

    def may_use(self, session: Session, client: Client, token: str | None, now: float) -> bool:
        """Whether `client`, with this token, may send a request of `session`."""
        use = self._uses.get(session)
        if use is None or use.clients == {client} or now - use.last_at >= REST:
            return True
        return _is_same(use.token, token)

    def may_reset(self, session: Session, client: Client, now: float) -> bool:
        """Whether `client` may reset `session`: it uses it, or nobody holds it."""
        use = self._uses.get(session)
        if use is None or use.token is None or client in use.clients:
            return True
        return now - use.last_at >= REST

    def used(
        self, session: Session, client: Client, token: str | None, now: float
    ) -> list[Session]:
        """`client` sent a request of `session`, which it may use.

        Returns:
            The sessions that end for lack of room.
        """
        use = self._uses.setdefault(session, _Use())
        if not _is_same(use.token, token):
            for other in use.clients - {client}:
                self._forget(other, session)
            use.clients.clear()
            use.token = token
        use.clients.add(client)
        use.last_at = now
        self._uses.move_to_end(session)
        self._sessions.setdefault(client, set()).add(session)
        ended = []
        while len(self._uses) > self._limit:
            oldest, unused = self._uses.popitem(last=False)
            for one in unused.clients:
                self._forget(one, oldest)
            ended.append(oldest)
        return ended

    def left(self, client: Client) -> list[Session]:
        """`client` disconnected; returns the sessions that end with it."""
        ended = []
        for session in self._sessions.pop(client, ()):
            clients = self._uses[session].clients
            clients.discard(client)
            if not clients:
                del self._uses[session]
                ended.append(session)
        return ended

    def _forget(self, client: Client, session: Session) -> None:
        sessions = self._sessions[client]
        sessions.discard(session)
        if not sessions:
            del self._sessions[client]


def _is_same(token: str | None, other: str | None) -> bool:
    if token is None or other is None:
        return token is other
    return secrets.compare_digest(token.encode(), other.encode())
