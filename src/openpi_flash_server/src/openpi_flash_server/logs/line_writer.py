"""A thread that writes log lines, so that logging never waits for the log's reader.

A pipe that nobody reads and a full disk delay neither answers nor the stop. Lines without room are
counted, and a line gives their number as soon as lines are written again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class _Batch:
    lost_before: int
    line: str


class LineWriter:
    """Writes lines in order, on a thread of its own.

    Args:
        write: writes text as a whole or raises OSError; may block.
        say_lost: makes the line about lost lines, from their number and the reason.
        room: characters that may wait; lines beyond it are lost.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        say_lost: Callable[[int, str], str],
        *,
        room: int = 1_000_000,
    ) -> None:
        self._write = write
        self._say_lost = say_lost
        self._room = room
        self._waiting: deque[_Batch] = deque()
        self._waiting_characters = 0
        self._lost = 0
        self._busy = False
        # guards everything above; never held while text is written
        self._changed = threading.Condition()
        # a daemon: a write that never returns must not keep the process
        self._thread = threading.Thread(target=self._work, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Queues `line` (without a line feed) for writing; never blocks."""
        with self._changed:
            if self._waiting and self._waiting_characters + len(line) > self._room:
                self._lost += 1
                return
            self._waiting.append(_Batch(self._lost, line))
            self._waiting_characters += len(line)
            self._lost = 0
            self._changed.notify_all()

    def flush(self, *, timeout: float) -> bool:
        """Waits until every line is written or lost, at most `timeout` s; returns whether so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def _work(self) -> None:
        failed, reason = 0, ""
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                batch = self._waiting.popleft()
                self._waiting_characters -= len(batch.line)
                self._busy = True
            lost = failed + batch.lost_before
            notice = self._say_lost(lost, reason or _NO_ROOM) + "\n" if lost else ""
            try:
                self._write(f"{notice}{batch.line}\n")
            except (OSError, ValueError) as error:
                failed, reason = lost + 1, getattr(error, "strerror", None) or str(error)
            else:
                failed, reason = 0, ""


_NO_ROOM = "lines came faster than they were read"
