"""Text that came from outside, made fit for a log line and for an error message. Pure.

A client chooses its session's name, its keys and its values. They reach terminals and other
people's programs, so nothing of them moves a cursor, forges a line, or fills a disk.
"""

from __future__ import annotations

import numpy as np

LONGEST = 200
"""Characters of an outside text that a message repeats."""


def shown(text: str, *, longest: int = LONGEST) -> str:
    r"""Returns `text` with control characters escaped, and its middle left out where it is long.

    Escaped is all that Python does not count as printable: control characters, line and paragraph
    separators, direction marks, lone surrogates. They become `\x1b`, `\n`, `\u202e`.

    Args:
        text: of any length; only as much of it is looked at as is shown.
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
    """What a caller gave in place of what was expected: its value if short, else its type."""
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype}{list(value.shape)}"
    if isinstance(value, str):
        return f"'{shown(value, longest=80)}'"
    return repr(value) if isinstance(value, int | float | None) else type(value).__name__


def shown_lines(text: str, *, most: int = 100) -> str:
    """As `shown` for text of several lines, such as a traceback: each line by itself.

    Args:
        text: the lines.
        most: lines of the result; of more, those in the middle are left out.
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
"""A line of a traceback has the exception's name before what was shortened already."""
