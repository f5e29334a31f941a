"""A thread that acts when a time has come, if nothing else has made it act before."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from openpi_flash_server.slot.vital_thread import vital_thread


class Alarm:
    """Calls `act` at the time that was set last.

    Args:
        name: the thread's.
        lock: held by the caller of `set` and `close`; `act` is called without it.
        clock: monotonic seconds.
        act: sets the next time.
        died: is told, in words for `/healthz`, that the thread has died.
    """

    def __init__(
        self,
        name: str,
        lock: threading.RLock,
        *,
        clock: Callable[[], float],
        act: Callable[[], None],
        died: Callable[[str], None],
    ) -> None:
        self._lock = lock
        self._clock = clock
        self._act = act
        self._earlier = threading.Condition(lock)
        self._at = math.inf
        self._sleeps_until = -math.inf
        self._is_closed = False
        self._is_started = False
        self._thread = vital_thread(name, self._keep_time, died)

    def start(self) -> None:
        """Starts the thread, unless it was started before."""
        if not self._is_started:
            self._is_started = True
            self._thread.start()

    def set(self, at: float) -> None:
        """Acts at `at`, and not before; infinite for never."""
        self._at = at
        # the thread is not woken to sleep for longer: it finds out when it wakes
        if at < self._sleeps_until:
            self._earlier.notify_all()

    def close(self) -> None:
        """Acts no more."""
        self._is_closed = True
        self._earlier.notify_all()

    def _keep_time(self) -> None:
        while True:
            with self._lock:
                if self._is_closed:
                    return
                left = self._at - self._clock()
                if left > 0:
                    self._sleeps_until = self._at
                    self._earlier.wait(left if left < threading.TIMEOUT_MAX else None)
                    self._sleeps_until = -math.inf
            self._act()
