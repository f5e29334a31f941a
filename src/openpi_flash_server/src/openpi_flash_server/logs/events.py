"""Writes events to the log: a text, and fields with stable names."""

from __future__ import annotations

import logging
from typing import Any


class EventLogger:
    """Writes events of one module.

    Args:
        name: the module's.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Any) -> None:
        """Something that helps to find a fault."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Something that an operator follows."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that works now and needs to be changed."""
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
