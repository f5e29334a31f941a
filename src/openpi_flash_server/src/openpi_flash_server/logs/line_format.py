"""Formats an event as a line of text.

    2026-05-01T09:30:00.125Z info    action model is warm  slot=action seconds=8.1

A line holds no control characters, whatever its fields hold. A traceback follows below its
line, indented, so that no line of it looks like an event.
"""

from __future__ import annotations

import datetime
import logging
from typing import Any

from openpi_flash_server.logs.outside_text import shown, shown_lines


class LineFormatter(logging.Formatter):
    """Formats one event as one line, with the traceback below it if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of `record`, without a line feed at its end."""
        time = datetime.datetime.fromtimestamp(record.created, tz=datetime.timezone.utc)
        stamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = shown(record.getMessage(), longest=_LONGEST_EVENT)
        line = f"{stamp} {record.levelname.lower():7} {event}"
        fields = getattr(record, "fields", {})
        if fields:
            line += "  " + " ".join(f"{name}={_render(value)}" for name, value in fields.items())
        if record.exc_info:
            below = shown_lines(self.formatException(record.exc_info)).split("\n")
            line += "".join(f"\n    {text}" for text in below)
        return line


def _render(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    text = str(value)
    plain = shown(text, longest=_LONGEST_FIELD)
    if plain and not any(character in text for character in _NEEDS_QUOTES):
        return plain
    if "'" not in plain:
        return f"'{plain}'"
    return '"' + plain.replace('"', '\\"') + '"'


_NEEDS_QUOTES = " \"'=\n\r\t"
_LONGEST_EVENT = 2000
"""Longest text of an event; other libraries' warnings fit."""
_LONGEST_FIELD = 1000
"""Longest field; long paths fit, and clients' text is shortened before."""
