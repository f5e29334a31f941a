"""A thread that writes files, slowly while the robot may move."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from openpi_flash_robot.black_box.folder import BlackBoxError, Folder
from openpi_flash_robot.black_box.messages import write_recording
from openpi_flash_robot.black_box.records import Recording

SLICE_S, PAUSE_S = 0.001, 0.004
"""The thread works for this long at a time and then pauses for the other: while it works it holds
the interpreter, which the control loop waits for."""
SPACE_CHECK_BYTES = 4_000_000
"""Between two looks at the free space."""


@dataclass(frozen=True)
class Written:
    """A file is whole.

    Attributes:
        path: where it is.
        bytes: how large it is.
    """

    path: str
    bytes: int


@dataclass(frozen=True)
class NotWritten:
    """A file, or the folder, cannot be written.

    Attributes:
        message: why, and what to do.
        is_lost: whether a file is lost by it; else only the folder was looked at.
    """

    message: str
    is_lost: bool


class FileWriter:
    """Writes one recording at a time; nothing here blocks the caller but `close`."""

    def __init__(self, folder: Folder) -> None:
        """Begin, with a look whether the folder can be written.

        Args:
            folder: where the files go.
        """
        self._folder = folder
        self._changed = threading.Condition()
        self._job: tuple[str, Recording] | None = None
        self._is_busy = False
        self._closing = self._hurries = False
        self._results: deque[Written | NotWritten] = deque()
        self._thread = threading.Thread(target=self._run, name="black_box_writer", daemon=True)
        self._thread.start()

    @property
    def is_free(self) -> bool:
        """Whether a recording would be taken."""
        return not self._is_busy

    def write(self, name: str, recording: Recording) -> str | None:
        """Hand a recording over; where it will be, or None while another one is written.

        Args:
            name: of the file.
            recording: what to write.
        """
        with self._changed:
            if self._is_busy or self._closing:
                return None
            self._is_busy = True
            self._job = (name, recording)
            self._changed.notify()
        return str(self._folder.path / name)

    def results(self) -> list[Written | NotWritten]:
        """What has come of it since the last call."""
        results = []
        while self._results:
            results.append(self._results.popleft())
        return results

    def hurry(self) -> None:
        """Write without pauses from now on: the robot stands, and the process ends."""
        self._hurries = True

    def close(self, timeout: float) -> bool:
        """Finish what is under way, without pauses; whether that was done in time.

        Args:
            timeout: seconds; a thread that is still at work then is left behind.
        """
        self.hurry()
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # --- the thread ---

    def _run(self) -> None:
        try:
            self._folder.check()
        except BlackBoxError as error:
            self._results.append(NotWritten(str(error), is_lost=False))
        while (job := self._next_job()) is not None:
            try:
                self._results.append(self._written(*job))
            except BlackBoxError as error:
                self._results.append(NotWritten(str(error), is_lost=True))
            except Exception as error:  # whatever it is, the robot goes on
                message = f"the black box could not write {job[0]}: {error!r}"
                self._results.append(NotWritten(message, is_lost=True))
            job = None  # the memory of what is written is free
            self._is_busy = False

    def _next_job(self) -> tuple[str, Recording] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._job is not None or self._closing)
            job, self._job = self._job, None
            return job

    def _written(self, name: str, recording: Recording) -> Written:
        size = checked = 0
        with self._folder.new_file(name) as file:

            def write(data: bytes) -> None:
                nonlocal size, checked
                file.write(data)
                size += len(data)
                if size - checked > SPACE_CHECK_BYTES:
                    checked = size
                    self._folder.check_space()

            self._gently(write_recording(recording, write))
        return Written(str(self._folder.path / name), size)

    def _gently(self, steps: Iterator[None]) -> None:
        """Take all steps, with a pause after each slice of time."""
        began = time.perf_counter()
        for _ in steps:
            if time.perf_counter() - began > SLICE_S and not self._hurries:
                time.sleep(PAUSE_S)
                began = time.perf_counter()
