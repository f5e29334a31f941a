"""A clock that stands still until a test moves it."""

import threading

from flash_transport.clock import Clock


class VirtualClock(Clock):
    """Starts at 0; waits end by a notification or by `advance`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0.0
        self._waiting: list[threading.Condition] = []

    def now(self) -> float:
        return self._now

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        with self._lock:
            if until is not None and until <= self._now:
                return
            self._waiting.append(condition)
        condition.wait()
        with self._lock:
            self._waiting.remove(condition)

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()
