"""Sets up the log: every event goes to stdout, through the line writer."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable
from typing import Literal, TextIO

from openpi_flash_server.logs.line_format import json_formatter, text_formatter
from openpi_flash_server.logs.line_writer import LineWriter

OURS = ("openpi_flash_server", "openpi_flash_models", "flash_transport")
"""Loggers whose events appear from the chosen level up; those of other libraries from `warning`."""

LogForm = Literal["auto", "text", "json"]
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
            told = _event(f"an event could not be formatted: {type(error).__name__}")
            line = self.formatter.format(told) if self.formatter is not None else told.msg
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


class LogOutput:
    """Where the lines go.

    Args:
        writer: takes them.
        formatter: of events.
        is_json: whether every line is an event as JSON.
    """

    def __init__(self, writer: LineWriter, formatter: logging.Formatter, *, is_json: bool) -> None:
        self._writer = writer
        self._formatter = formatter
        self._is_json = is_json

    def put(self, text: str) -> None:
        """Writes text that is no event and has no level; in JSON as an event."""
        self._writer.put(self._formatter.format(_event(text)) if self._is_json else text)

    def flush(self, *, timeout: float) -> bool:
        """Waits until every line is written or lost, at most `timeout` s; returns whether so."""
        return self._writer.flush(timeout=timeout)


def configure(
    level: Level = "info", *, form: LogForm = "auto", stream: TextIO | None = None
) -> LogOutput:
    """Sends events to `stream` (stdout) from `level` up, and other libraries' warnings.

    Args:
        level: a key of LEVELS.
        form: `text`, `json`, or `auto`: text on a terminal, JSON elsewhere.
        stream: instead of stdout.
    """
    target = stream or sys.stdout
    is_terminal = target is not None and target.isatty()
    is_json = form == "json" or (form == "auto" and not is_terminal)
    colors = is_terminal and "NO_COLOR" not in os.environ
    formatter = json_formatter() if is_json else text_formatter(colors=colors)
    writer = LineWriter(_writes_to(target), _lost_lines(formatter))
    handler = _LineHandler(writer)
    handler.setFormatter(formatter)
    handler.addFilter(OnceFilter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)
    return LogOutput(writer, formatter, is_json=is_json)


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
    return LineWriter(_writes_to(sys.stderr), _lost_lines(text_formatter()))


def _lost_lines(formatter: logging.Formatter) -> Callable[[int, str], str]:
    def say(count: int, reason: str) -> str:
        fields = {"lines": count, "reason": reason.lower()}
        return formatter.format(_event("log lines were lost", logging.WARNING, fields))

    return say


def _event(
    text: str, level: int = logging.INFO, fields: dict[str, object] | None = None
) -> logging.LogRecord:
    values = {"name": __name__, "levelno": level, "levelname": logging.getLevelName(level)}
    return logging.makeLogRecord({**values, "msg": text, "fields": fields or {}})


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
