"""The session of a request: a client's, by its name, or a part of the server itself.

Clients choose names. A part of the server has no name, so that no client can impersonate it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openpi_flash_models.errors import ObservationError
from openpi_flash_server.logs.outside_text import described

LONGEST_NAME = 128
"""Characters of a session's name, as in the hello of QUIC (docs/protocol.md)."""

TOKEN = "session_token"
"""The key of a request that holds its session; other connections need the token to use it."""

LONGEST_TOKEN = 128


@dataclass(frozen=True, slots=True)
class PlanSession:
    """The action slot, which asks the planner for the subtasks of one session.

    Attributes:
        of: that session.
        row: of its observation in a request with a batch.
        is_awaited: whether a request waits for this subtask.
    """

    of: Session
    row: int
    is_awaited: bool = field(compare=False)

    @property
    def name(self) -> str:
        """For the log."""
        return f"action slot for {self.of}"


@dataclass(frozen=True, slots=True)
class ShadowSession:
    """The session of the copies of another session's requests.

    Attributes:
        of: the session that is copied.
    """

    of: str | PlanSession

    @property
    def name(self) -> str:
        """For people."""
        return f"shadow of {self.of if isinstance(self.of, str) else self.of.name}"


Session = str | PlanSession | ShadowSession


def owned_name(name: str, key: int, connection: str) -> str:
    """A client's session, apart from those of equal names of clients with other API keys.

    The session of a client that names none has its connection's name. It belongs to that connection
    alone: no other client can name it.

    Args:
        name: as the client gives it; checked, so that it holds no no-break space, and no client
            can name the session of another key.
        key: the place of its API key in the server's list.
        connection: the client's, which is also the name that its transport gives its session.
    """
    if name != connection and _CONNECTION.fullmatch(name):
        name = f"named:\N{NO-BREAK SPACE}{name}"
    return f"key {key + 1}:\N{NO-BREAK SPACE}{name}" if key else name


def session_name(value: Any) -> str:
    """The name in a request's `session` or a client's hello.

    Raises:
        ObservationError: it is no text, empty, too long, or holds control characters.
    """
    if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable():
        return value
    raise ObservationError(
        "session",
        f"expected printable text of 1 to {LONGEST_NAME} characters, got {described(value)}",
    )


def split_token(message: Any) -> tuple[Any, str | None]:
    """A decoded message without its `session_token`, and the token, None if it has none.

    The rest of the server sees only the message: nothing logs, records or copies the token.

    Raises:
        ObservationError: the token is no text, empty or too long. It does not show the token.
    """
    if not isinstance(message, Mapping) or TOKEN not in message:
        return message, None
    rest = dict(message)
    token = rest.pop(TOKEN)
    if token is not None and not (isinstance(token, str) and 0 < len(token) <= LONGEST_TOKEN):
        raise ObservationError(TOKEN, f"expected text of 1 to {LONGEST_TOKEN} characters")
    return rest, token


_CONNECTION = re.compile(r".+#[0-9]+")
"""The form of a connection's name: see `Client`."""
