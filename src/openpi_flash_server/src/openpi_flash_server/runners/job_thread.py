"""A thread that does jobs in the order in which they come."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from openpi_flash_server.logs.events import EventLogger

log = EventLogger(__name__)


class JobThread:
    """Does jobs from its construction on.

    Args:
        name: the thread's.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._is_working = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], None]) -> None:
        """Does `job` after those before it, and returns at once."""
        self._jobs.put(job)

    @property
    def is_busy(self) -> bool:
        """Whether a job that is given now has to wait for others."""
        return self._is_working or not self._jobs.empty()

    def close(self, timeout: float) -> bool:
        """Ends the thread when all is done; returns whether it did within `timeout` s."""
        self._jobs.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            self._is_working = True
            try:
                job()
            # a fault of one job must not end the thread
            except BaseException as error:
                log.error("slot failed", exception=error, thread=self._thread.name)
            # the job holds its observations, whose buffers are reused when nothing holds them
            del job
            self._is_working = False
