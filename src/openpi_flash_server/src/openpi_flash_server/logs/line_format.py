"""Formats events: as lines for people, or as JSON for programs. structlog does the work.

    2026-05-01T09:30:00.125Z info    action model is warm  slot=action seconds=8.1
    {"timestamp": "2026-05-01T09:30:00.125Z", "level": "info", "event": "action model is warm", ...}

Neither form holds control characters, whatever the fields hold. In text, a traceback follows below
its line, indented, so that no line of it looks like an event; in JSON it is the field `exception`.
"""

from __future__ import annotations

import datetime
import logging
import traceback
from typing import Any, TextIO

import structlog
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter
from structlog.processors import ExceptionRenderer, JSONRenderer
from structlog.stdlib import ProcessorFormatter, add_log_level
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, ExcInfo

from openpi_flash_server.logs.outside_text import shown, shown_lines


def text_formatter(*, colors: bool = False) -> ProcessorFormatter:
    """One line an event, with the traceback below it if there is one.

    Args:
        colors: for a terminal.
    """
    reset = "\x1b[0m" if colors else ""

    def style(code: int) -> str:
        return f"\x1b[{code}m" if colors else ""

    def column(key: str, code: int, **more: Any) -> Column:
        of_value = KeyValueColumnFormatter(
            key_style=None, value_style=style(code), reset_style=reset, value_repr=str, **more
        )
        return Column(key, of_value)

    rest = KeyValueColumnFormatter(
        key_style=style(_CYAN), value_style="", reset_style=reset, value_repr=_in_a_line
    )
    renderer = ConsoleRenderer(
        columns=[
            column("timestamp", _DIM),
            column("level", _DIM, width=7),
            column("event", _BOLD, postfix=" "),
            Column("", rest),
        ],
        sort_keys=False,
        exception_formatter=_write_traceback,
    )
    return _formatter(_shown_event, _flattened, renderer)


def json_formatter() -> ProcessorFormatter:
    """One JSON object a line: `timestamp`, `level`, `logger`, `event`, and the event's fields."""
    frames = ExceptionDictTransformer(show_locals=False, max_frames=20)
    return _formatter(
        _shown_event,
        _with_logger,
        _flattened,
        ExceptionRenderer(frames),
        JSONRenderer(default=str, allow_nan=False),
    )


def _formatter(*processors: structlog.typing.Processor) -> ProcessorFormatter:
    return ProcessorFormatter(
        foreign_pre_chain=[_timed, add_log_level],
        processors=[*processors[:-1], ProcessorFormatter.remove_processors_meta, processors[-1]],
    )


def _timed(_logger: Any, _method: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    time = datetime.datetime.fromtimestamp(record.created, tz=datetime.timezone.utc)
    stamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    # first, so that a reader finds it there
    return {"timestamp": stamp, "level": "", **event}


def _shown_event(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {**event, "event": shown(str(event["event"]), longest=_LONGEST_EVENT)}


def _with_logger(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {**event, "logger": event["_record"].name}


def _flattened(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The event with the fields of its record, none of which can replace a key of the event."""
    fields = getattr(event["_record"], "fields", {})
    return {**event, **{name: value for name, value in fields.items() if name not in event}}


def _in_a_line(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    text = str(value)
    plain = shown(text, longest=_LONGEST_FIELD)
    if plain and not any(character in text for character in _NEEDS_QUOTES):
        return plain
    if "'" not in plain:
        return f"'{plain}'"
    return '"' + plain.replace('"', '\\"') + '"'


def _write_traceback(out: TextIO, error: ExcInfo) -> None:
    below = shown_lines("".join(traceback.format_exception(*error)).rstrip("\n"))
    out.write("".join(f"\n    {text}" for text in below.split("\n")))


_NEEDS_QUOTES = " \"'=\n\r\t"
_LONGEST_EVENT = 2000
"""Longest text of an event; other libraries' warnings fit."""
_LONGEST_FIELD = 1000
"""Longest field; long paths fit, and clients' text is shortened before."""
_BOLD, _DIM, _CYAN = 1, 2, 36
"""ANSI codes."""
