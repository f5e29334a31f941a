"""Runs one handler on many threads, each of which waits for a replica of the policy."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence

from openpi_flash_server.replicas.pool import Call
from openpi_flash_server.replicas.replicas import Replicas
from openpi_flash_server.runners.decode_ahead import DecodeAhead
from openpi_flash_server.runners.job_thread import JobThread
from openpi_flash_server.slot.decoding import Decoding
from openpi_flash_server.slot.runner import (
    FirstActions,
    Handler,
    Ran,
    batch_key_by,
    max_batch_of,
    no_first_actions,
    run_batch,
)
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.work import Work


class ReplicaRunner:
    """Runs as many batches at once as the replicas have places.

    Args:
        name: of the threads.
        handler: its policy is a `ReplicatedPolicy`; called on several threads at once.
        replicas: of that policy.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        handler: Handler,
        replicas: Replicas,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._handler = handler
        self._batch_key = batch_key_by(handler)
        self._replicas = replicas
        self._clock = clock
        self._ahead = DecodeAhead(f"{name}-decode", clock)
        self.max_batch = max_batch_of(handler)
        self._idle: list[JobThread] = []
        self._running = 0
        self._threads = 0
        # guards the three above
        self._ended = threading.Condition()

    @property
    def places(self) -> int:
        """How many batches may be under way at once."""
        return self._replicas.places

    @property
    def refusal(self) -> str | None:
        """Why it can run nothing now; None if it can."""
        return self._replicas.refusal

    def attach(self, changed: Callable[[], None]) -> None:
        """Calls `changed` when there may be other places than before."""
        self._replicas.attach(changed)

    def can_start(self, session: Session) -> bool:
        """Whether there is a place for a work of `session`, where its state is."""
        return self._replicas.can_begin(session)

    def batch_key(self, work: Work) -> Hashable:
        """Works with equal keys can share a batch: the state of their sessions is in one place."""
        return self._replicas.home(work.session), self._batch_key(work)

    def expect(self, works: Sequence[Work]) -> None:
        """Decodes the images of `works` on a thread of its own."""
        self._ahead.expect(works)

    def start(
        self,
        works: Sequence[Work],
        done: Callable[[Ran], None],
        first: FirstActions = no_first_actions,
    ) -> None:
        """Runs `works` beside what was started before; takes a place at once."""
        call = self._replicas.begin([work.session for work in works], _deadline(works, self._clock))
        images = self._ahead.claim(works, is_later=False)
        with self._ended:
            self._running += 1
            if not self._idle:
                self._threads += 1
                self._idle.append(JobThread(f"{self._name}-{self._threads}"))
            thread = self._idle.pop()

        def run() -> None:
            try:
                done(self._ran(call, works, images, first))
            finally:
                with self._ended:
                    self._running -= 1
                    self._idle.append(thread)
                    self._ended.notify_all()

        thread.do(run)

    def _ran(
        self, call: Call, works: Sequence[Work], images: Sequence[Decoding], first: FirstActions
    ) -> Ran:
        with self._replicas.running(call):
            decoded = [each.result() for each in images]
            return run_batch(self._handler, works, decoded, self._clock, first)

    def reset(self, session: Session) -> None:
        """Drops the session's state after the batches that were started before this call."""
        self._replicas.reset(session)

    def session_ended(self, session: Session) -> None:
        """Nobody uses the session any more."""
        self._replicas.session_ended(session)

    def close(self, timeout: float) -> bool:
        """Ends its threads when all is run; returns whether that was within `timeout` s.

        The replicas go on.
        """
        self._ahead.close()
        with self._ended:
            has_run = self._ended.wait_for(lambda: not self._running, timeout)
            idle, self._idle = self._idle, []
        for thread in idle:
            thread.close(_LAST_STEP)
        return has_run


def _deadline(works: Sequence[Work], clock: Callable[[], float]) -> float:
    """When no answer is of use any more, monotonic s."""
    limits = [math.inf if work.deadline_ms is None else work.deadline_ms for work in works]
    return clock() + max(limits) / 1000


_LAST_STEP = 1.0
"""s for a thread that has run its last job to end."""
