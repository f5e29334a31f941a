"""Which texts can name a session. Pure."""

from __future__ import annotations

import unicodedata

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
        if _is_control(char):
            raise ValueError(f"session holds the control character {shown(char)}; leave it out")
    return session


def _is_control(char: str) -> bool:
    """As `is_control` of `src/text.rs`: controls, line separators, marks of text direction."""
    return unicodedata.category(char) == "Cc" or char in _CONTROLS


_CONTROLS = frozenset(
    "\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)
