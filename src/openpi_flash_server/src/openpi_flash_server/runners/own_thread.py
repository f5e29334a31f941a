"""A thread for one handler."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence

from openpi_flash_server.runners.decode_ahead import DecodeAhead
from openpi_flash_server.runners.device_turns import DeviceTurns
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


class OwnThread:
    """Runs one handler on a thread of its own, one batch at a time.

    Args:
        name: the thread's; another one, which decodes images, is named after it.
        handler: loaded and warm.
        clock: monotonic seconds.
        turns: of a device that a planner uses, too.
    """

    places = 1

    def __init__(
        self,
        name: str,
        handler: Handler,
        *,
        clock: Callable[[], float] = time.monotonic,
        turns: DeviceTurns | None = None,
    ) -> None:
        self._jobs = JobThread(name)
        self._turns = turns
        self._handler = handler
        self._clock = clock
        self._ahead = DecodeAhead(f"{name}-decode", clock)
        self.max_batch = max_batch_of(handler)
        self._batch_key = batch_key_by(handler)

    def batch_key(self, work: Work) -> Hashable:
        """Works with equal keys can share a batch."""
        return self._batch_key(work)

    def expect(self, works: Sequence[Work]) -> None:
        """Decodes the images of `works` on a thread of their own, if they are not started before.

        What it decoded of other works is dropped.
        """
        self._ahead.expect(works)

    def start(
        self,
        works: Sequence[Work],
        done: Callable[[Ran], None],
        first: FirstActions = no_first_actions,
    ) -> None:
        """Runs `works` after what was started on the thread before."""
        if self._turns is not None:
            self._turns.action_wanted(works)
        images = self._ahead.claim(works, is_later=self._jobs.is_busy)
        self._jobs.do(lambda: self._run(works, images, done, first))

    def _run(
        self,
        works: Sequence[Work],
        images: Sequence[Decoding],
        done: Callable[[Ran], None],
        first: FirstActions,
    ) -> None:
        # before the turn: the planner may use the device meanwhile
        decoded = [each.result() for each in images]
        if self._turns is None:
            done(run_batch(self._handler, works, decoded, self._clock, first))
            return
        with self._turns.action(self, works):
            # `done` in the turn, too: it may start the next batch, which then comes first
            done(run_batch(self._handler, works, decoded, self._clock, first))

    def reset(self, session: Session) -> None:
        """Drops the session's state after what was started before."""
        self._jobs.do(lambda: self._handler.reset(session))

    def close(self, timeout: float) -> bool:
        """Ends its threads when all is run; returns whether they did within `timeout` s.

        If they did not, a planner on the same device goes on without waiting for them.
        """
        self._ahead.close()
        ended = self._jobs.close(timeout)
        if not ended and self._turns is not None:
            self._turns.action_given_up(self)
        return ended
