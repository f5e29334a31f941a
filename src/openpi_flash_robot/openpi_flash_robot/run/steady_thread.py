"""A thread that does one thing again and again at a steady rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from openpi_flash_robot.nanoseconds import to_seconds


class SteadyThread:
    """Calls a function once a period, and sooner when it is woken, until it is told to end."""

    def __init__(self, name: str, period_ns: int, do: Callable[[int], bool]) -> None:
        """Prepare; `start` begins.

        Args:
            name: of the thread.
            period_ns: time between two calls; a call that takes longer delays the next one only.
            do: called with this moment, `time.monotonic_ns()`; false ends the thread.
        """
        self._period_ns = period_ns
        self._do = do
        self._is_ending = False
        self._woken = threading.Event()
        # a daemon: a `read` that never returns must not keep the process alive
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Have the function called at once."""
        self._woken.set()

    def close(self, timeout_s: float) -> None:
        """End after the call that is under way; one that takes longer is left behind."""
        self._is_ending = True
        self._woken.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        due = time.monotonic_ns()
        while not self._is_ending:
            now = time.monotonic_ns()
            if not self._do(now):
                return
            if now >= due:
                due += self._period_ns * (1 + (now - due) // self._period_ns)
            self._woken.wait(max(0.0, to_seconds(due - time.monotonic_ns())))
            self._woken.clear()
