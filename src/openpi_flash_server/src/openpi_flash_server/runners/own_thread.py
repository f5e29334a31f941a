"""A thread for one handler."""

from __future__ import annotations

import time
from collections.abc import Callable

from openpi_flash_server.runners.device_turns import DeviceTurns
from openpi_flash_server.runners.job_thread import JobThread
from openpi_flash_server.runners.shared_device import DeviceRunner
from openpi_flash_server.slot.runner import Handler


class OwnThread(DeviceRunner):
    """Runs one handler on a thread of its own, one batch at a time.

    Args:
        name: the thread's.
        handler: loaded and warm.
        clock: monotonic seconds.
        turns: of a device that a planner uses, too.
    """

    def __init__(
        self,
        name: str,
        handler: Handler,
        *,
        clock: Callable[[], float] = time.monotonic,
        turns: DeviceTurns | None = None,
    ) -> None:
        self._thread = JobThread(name)
        super().__init__(name, self._thread, handler, clock, turns)

    def close(self, timeout: float) -> bool:
        """Ends its threads when all is run; returns whether they did within `timeout` s.

        If they did not, a planner on the same device goes on without waiting for them.
        """
        self._ahead.close()
        ended = self._thread.close(timeout)
        if not ended and self._turns is not None:
            self._turns.action_given_up(self)
        return ended
