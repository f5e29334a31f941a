"""A thread for one handler."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Hashable, Sequence

from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.slot.runner import (
    Handler,
    Ran,
    batch_key_of,
    max_batch_of,
    run_batch,
)
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.work import Work

log = EventLogger(__name__)


class OwnThread:
    """Runs one handler on a thread of its own, one batch at a time.

    Args:
        name: the thread's.
        handler: loaded and warm.
        clock: monotonic seconds.
    """

    places = 1

    def __init__(
        self, name: str, handler: Handler, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._handler = handler
        self._clock = clock
        self.max_batch = max_batch_of(handler)
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def batch_key(self, work: Work) -> Hashable:
        """Works with equal keys can share a batch."""
        return batch_key_of(self._handler, work)

    def start(self, works: Sequence[Work], done: Callable[[Ran], None]) -> None:
        """Runs `works` after what was started before."""
        self._jobs.put(lambda: done(run_batch(self._handler, works, self._clock)))

    def reset(self, session: Session) -> None:
        """Drops the session's state after what was started before."""
        self._jobs.put(lambda: self._handler.reset(session))

    def close(self, timeout: float) -> bool:
        """Ends the thread when all is run; returns whether it did within `timeout` s."""
        self._jobs.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                job()
            # a fault of one job must not end the thread
            except BaseException as error:
                log.error("slot failed", exception=error, thread=self._thread.name)
            # the job holds its observations, whose buffers are reused when nothing holds them
            del job
