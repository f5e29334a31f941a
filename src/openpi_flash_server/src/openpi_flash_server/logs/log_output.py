"""Sets up the log: every event goes to stdout, through the line writer."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Literal, TextIO

from openpi_flash_server.logs.line_format import LineFormatter
from openpi_flash_server.logs.line_writer import LineWriter

OURS = ("openpi_flash_server", "openpi_flash_models", "flash_transport")
"""Loggers whose events appear from the chosen level up; those of other libraries from `warning`."""

Level = Literal["debug", "info", "warning", "error"]

LEVELS: dict[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class _LineHandler(logging.Handler):
    """Formats events and hands their lines to a writer."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Hands on the lines of `record`."""
        try:
            line = self.format(record)
        except Exception as error:
            line = f"an event could not be formatted: {type(error).__name__}"
        self._writer.put(line)


class OnceFilter(logging.Filter):
    """Passes each warning of the transport once: every socket of a server has the same ones."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` was not logged before."""
        if record.name != "flash_transport" or record.levelno != logging.WARNING:
            return True
        message = record.getMessage()
        is_news = message not in self._said
        if len(self._said) < _REMEMBERED_WARNINGS:
            self._said.add(message)
        return is_news


def configure(level: Level = "info", *, stream: TextIO | None = None) -> LineWriter:
    """Sends events to `stream` (stdout) from `level` up, and other libraries' warnings.

    Args:
        level: a key of LEVELS.
        stream: instead of stdout.

    Returns:
        The writer, for lines that are no events.
    """
    formatter = LineFormatter()
    writer = LineWriter(_writes_to(stream or sys.stdout), _lost_lines(formatter))
    handler = _LineHandler(writer)
    handler.setFormatter(formatter)
    handler.addFilter(OnceFilter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)
    return writer


def set_level(level: Level) -> None:
    """Shows events from `level` (a key of LEVELS) up, and other libraries' warnings."""
    logging.getLogger().setLevel(max(LEVELS[level], logging.WARNING))
    for name in OURS:
        logging.getLogger(name).setLevel(LEVELS[level])


def level() -> Level:
    """The level in force."""
    ours = logging.getLogger(OURS[0]).getEffectiveLevel()
    return max((name for name in LEVELS if LEVELS[name] <= ours), key=LEVELS.__getitem__)


def stderr_writer() -> LineWriter:
    """The writer for the last lines of a failing process."""
    return LineWriter(_writes_to(sys.stderr), _lost_lines(LineFormatter()))


def _lost_lines(formatter: LineFormatter) -> Callable[[int, str], str]:
    def say(count: int, reason: str) -> str:
        record = logging.makeLogRecord(
            {
                "created": time.time(),
                "levelname": "WARNING",
                "msg": "log lines were lost",
                "fields": {"lines": count, "reason": reason.lower()},
            }
        )
        return formatter.format(record)

    return say


def _writes_to(stream: TextIO | None) -> Callable[[str], object]:
    """A function that writes text to `stream` as a whole, past its buffer if it is a file.

    A buffer whose flush failed would try again at every line and at the end of the process.
    """
    if stream is None:
        # started with stdout closed: file 1 may be a socket by now
        return lambda _: None
    try:
        file = stream.fileno()
    except (AttributeError, io.UnsupportedOperation, ValueError):
        return lambda text: (stream.write(text), stream.flush())
    with contextlib.suppress(OSError):
        stream.flush()
    return _FileLines(file).write


class _FileLines:
    """Writes whole lines to an open file.

    Args:
        file: its descriptor.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._is_inside_a_line = False

    def write(self, text: str) -> None:
        """Writes `text`, which ends in a line feed."""
        data = text.encode("utf-8", "backslashreplace")
        if self._is_inside_a_line:
            # a full disk cut the last line off: begin a new one
            data = b"\n" + data
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        finally:
            if written:
                self._is_inside_a_line = not data[:written].endswith(b"\n")


_REMEMBERED_WARNINGS = 1000
