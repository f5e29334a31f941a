"""Log lines: an event in words and fields with stable names; how they look is decided last.

    2026-05-01T09:30:00.125Z info  slot warm  slot=action ms=812

A traceback goes to the log and never into a field.
"""

from __future__ import annotations

import datetime
import logging
import sys
from typing import Any, TextIO

OURS = ("openpi_flash_server", "openpi_flash_models", "flash_transport")
"""The loggers whose lines are for the operator; everybody else's appear from `warning` up."""


class EventLogger:
    """Writes events of one module."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Any) -> None:
        """Something only a developer looks for."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Something an operator wants to have seen."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that works, and should not stay so."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, exception: BaseException | None = None, **fields: Any) -> None:
        """Something that failed; with `exception`, its traceback follows the line."""
        self._write(logging.ERROR, event, fields, exception)

    def _write(
        self,
        level: int,
        event: str,
        fields: dict[str, Any],
        exception: BaseException | None = None,
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={"fields": fields}, exc_info=exception)


class LineFormatter(logging.Formatter):
    """One line per event, readable without colour; a traceback below it if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Renders `record`."""
        time = datetime.datetime.fromtimestamp(record.created, tz=datetime.timezone.utc)
        stamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = f"{stamp} {record.levelname.lower():7} {record.getMessage()}"
        fields = getattr(record, "fields", {})
        if fields:
            line += "  " + " ".join(f"{name}={_render(value)}" for name, value in fields.items())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class OnceFilter(logging.Filter):
    """Lets each warning of the transport through once: every socket of a server has the same."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` is news."""
        if record.name != "flash_transport" or record.levelno != logging.WARNING:
            return True
        message = record.getMessage()
        is_news = message not in self._said
        self._said.add(message)
        return is_news


def configure(*, stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Sends our events to `stream` (stdout) and other libraries' warnings after them."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(LineFormatter())
    handler.addFilter(OnceFilter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(level)


def _render(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    text = str(value)
    plain = text and not any(character in text for character in ' "=\n')
    return text if plain else repr(text)
