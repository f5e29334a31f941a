"""Which texts can name a session. Pure."""

from __future__ import annotations

from flash_transport.outside_text import shown

__all__ = ["checked_session"]

MAX_CHARS = 128
"""By `docs/protocol.md`: servers keep sessions, and show their names in logs."""


def checked_session(session: str) -> str:
    """The name as it is sent.

    Raises:
        ValueError: it is too long, or holds a control character.
    """
    if not isinstance(session, str):
        raise ValueError(f"session is {type(session).__name__}, expected text")
    if len(session) > MAX_CHARS:
        raise ValueError(f"session has {len(session)} characters, at most {MAX_CHARS} are allowed")
    for char in session:
        if not char.isprintable():
            raise ValueError(f"session holds the control character {shown(char)}; leave it out")
    return session
