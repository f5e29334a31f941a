"""One thread for the handlers of several slots that share a device."""

from __future__ import annotations

import threading
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
    batch_key_of,
    max_batch_of,
    no_first_actions,
    run_batch,
)
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.work import Work


class SharedDevice:
    """Runs one batch at a time, of the slots in turn: each has at most one in the line.

    A handler that waits for another slot of the same device would wait for ever.

    Args:
        name: the thread's.
        clock: monotonic seconds.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._jobs = JobThread(name)

    def runner(self, handler: Handler) -> DeviceRunner:
        """A runner on this device for one slot."""
        return DeviceRunner(self._name, self._jobs, handler, self._clock)

    def close(self, timeout: float) -> bool:
        """Ends the thread when all is run; returns whether it did within `timeout` s."""
        return self._jobs.close(timeout)


class DeviceRunner:
    """Runs one handler on a thread that others may use, too.

    Args:
        name: of its other thread, which decodes images.
        jobs: the thread.
        handler: loaded and warm.
        clock: monotonic seconds.
        turns: of a device that a planner on another thread uses, too.
    """

    places = 1

    def __init__(
        self,
        name: str,
        jobs: JobThread,
        handler: Handler,
        clock: Callable[[], float],
        turns: DeviceTurns | None = None,
    ) -> None:
        self._jobs = jobs
        self._turns = turns
        self._handler = handler
        self._clock = clock
        self._ahead = DecodeAhead(f"{name}-decode", clock)
        self.max_batch = max_batch_of(handler)

    def batch_key(self, work: Work) -> Hashable:
        """Works with equal keys can share a batch."""
        return batch_key_of(self._handler, work)

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
        """Waits for what was started; the thread goes on. Returns whether it ran in time."""
        self._ahead.close()
        passed = threading.Event()
        self._jobs.do(passed.set)
        return passed.wait(timeout)
