"""Waiting for work that cannot be interrupted, such as looking up a name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Abandoned", "Attempt"]

T = TypeVar("T")


class Abandoned(Exception):  # noqa: N818 - never seen outside
    """`abandon` was called."""


class Attempt(Generic[T]):
    """Work on a thread of its own, which a waiting thread can leave behind.

    The C library's resolver has no time limit, and signals do not interrupt it. Work that is left
    behind goes on, and its result is discarded.

    Args:
        work: what to do.
        discard: called with a result that came too late.
    """

    def __init__(self, work: Callable[[], T], discard: Callable[[T], None]) -> None:
        self._work = work
        self._discard = discard
        self._changed = threading.Condition()
        self._is_abandoned = False
        self._results: list[T] = []
        self._error: Exception | None = None

    def result(self, seconds: float | None) -> T:
        """Does the work; waits at most `seconds`.

        Raises:
            TimeoutError: the work takes longer.
            Abandoned: another thread called `abandon`.
            Exception: what the work raised.
        """
        try:
            threading.Thread(target=self._run, name="flash-connect", daemon=True).start()
            with self._changed:
                is_over = self._changed.wait_for(self._is_over, seconds)
                if self._is_abandoned:
                    raise Abandoned
                if not is_over:
                    raise TimeoutError
                if self._error is not None:
                    raise self._error
                return self._results.pop()
        finally:
            # also after Ctrl-C
            self.abandon()
            self._error = None

    def abandon(self) -> None:
        """Ends the wait of another thread. Harmless after the end of the work."""
        with self._changed:
            self._is_abandoned = True
            unwanted, self._results = self._results, []
            self._changed.notify_all()
        for result in unwanted:
            self._discard(result)

    def _is_over(self) -> bool:
        return self._is_abandoned or bool(self._results) or self._error is not None

    def _run(self) -> None:
        try:
            result = self._work()
        except Exception as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()
            return
        with self._changed:
            is_wanted = not self._is_abandoned
            if is_wanted:
                self._results.append(result)
            self._changed.notify_all()
        if not is_wanted:
            self._discard(result)
