"""Escapes and shortens clients' text for log lines and error messages. Pure.

A client chooses its session's name, its keys and its values. They reach terminals and other
programs, so they must not move a cursor, forge a line, or fill a disk.
"""

from __future__ import annotations

import numpy as np

LONGEST = 200
"""Characters of a client's text that a message shows."""


def shown(text: str, *, longest: int = LONGEST) -> str:
    r"""Returns `text` with control characters escaped, and its middle left out where it is long.

    Escaped is all that Python does not count as printable: control characters, line and paragraph
    separators, direction marks, lone surrogates. They become `\x1b`, `\n`, `\u202e`.

    Args:
        text: of any length; only the part that is shown is read.
        longest: characters of the result, at most.
    """
    if len(text) <= longest:
        escaped = _escaped(text)
        if len(escaped) <= longest:
            return escaped
    note = f"... ({len(text)} characters) ..."
    room = max(0, longest - len(note))
    # the beginning names the key, the end names the cause
    tail = room // 3
    start = _escaped(text[:room])[: room - tail]
    end = _escaped(text[-tail:])[-tail:] if tail else ""
    return f"{start}{note}{end}"[:longest]


def described(value: object) -> str:
    """A wrong value for an error message: the value if short, else its type."""
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype}{list(value.shape)}"
    if isinstance(value, str):
        return f"'{shown(value, longest=80)}'"
    return repr(value) if isinstance(value, int | float | None) else type(value).__name__


def shown_lines(text: str, *, most: int = 100) -> str:
    """As `shown` for text of several lines, such as a traceback: each line by itself.

    Args:
        text: the lines.
        most: lines of the result; further lines, from the middle, are left out.
    """
    lines = text.split("\n", most * 100)
    if len(lines) > most:
        lines = [*lines[: most // 2], "...", *lines[-(most // 2) :]]
    return "\n".join(shown(line, longest=_LONGEST_OF_A_LINE) for line in lines)


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


_LONGEST_OF_A_LINE = 300
"""Longest line of a traceback: an exception's name, and a message that was shortened before."""
