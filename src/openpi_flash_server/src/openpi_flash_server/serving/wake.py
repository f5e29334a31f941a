"""Wakes the main thread, from other threads and by signals.

Python runs a signal's handler in the main thread, but the kernel may deliver the signal to any
thread, and then nothing interrupts what the main thread waits for. Only `signal.set_wakeup_fd`
ends its wait. `threading.Event` has a second fault: a handler that interrupts the main thread
while that holds the event's lock waits for the lock for ever.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal


class Wake:
    """A pipe that the main thread waits on."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def heed_signals(self) -> None:
        """Lets every signal with a Python handler end `wait`. Only in the main thread."""
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)

    def wake(self) -> None:
        """Ends the running or the next `wait`."""
        # a full pipe wakes as well
        with contextlib.suppress(BlockingIOError):
            os.write(self._writing, b"\0")

    def wait(self, timeout: float | None = None) -> None:
        """Waits until `wake`, at most `timeout` s; several `wake` before it end one `wait`."""
        if select.select([self._reading], [], [], timeout)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._reading, 65536)
