"""Untrusted text, made safe for messages and logs. Pure."""

from __future__ import annotations

__all__ = ["MAX_CHARS", "quoted", "shown"]

MAX_CHARS = 200
"""Most characters of an untrusted text in a message."""


def shown(text: str, limit: int = MAX_CHARS) -> str:
    r"""The text on one line, of at most `limit` characters; control characters as `\x1b` or `\n`.

    A text that is cut ends in `…`.
    """
    # escapes only lengthen the text: the rest cannot be needed
    escaped = "".join(map(_escaped, text[: limit + 1]))
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


def quoted(text: str, limit: int = MAX_CHARS) -> str:
    """As `shown`, between double quotes."""
    return '"' + shown(text.replace("\\", "\\\\").replace('"', '\\"'), limit) + '"'


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}"


_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
