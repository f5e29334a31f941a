"""Decodes the images of the works that run next, while the device is busy with those before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from openpi_flash_server.slot.decoding import Decoding
from openpi_flash_server.slot.encoded_images import holds_images
from openpi_flash_server.slot.work import Work


class DecodeAhead:
    """A thread that decodes; it starts with the first encoded image.

    It holds at most the works of the last `expect`, and those that were claimed for later. What it
    has not decoded when a batch runs is decoded by the thread that runs the batch.

    Args:
        name: the thread's.
        clock: monotonic seconds.
    """

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        # the works of a request are copied with new times, but share its observation
        self._expected: dict[int, tuple[Work, Decoding]] = {}
        self._in_line: list[Decoding] = []
        self._thread: threading.Thread | None = None
        self._is_closed = False
        # guards everything above; never held while an image is decoded
        self._changed = threading.Condition()

    def expect(self, works: Sequence[Work]) -> None:
        """Decodes the images of `works`, in order, and drops what it decoded of other works."""
        with self._changed:
            if self._is_closed or not (works or self._expected):
                return
            before, self._expected = self._expected, {}
            for work in works:
                key = id(work.observation)
                if key in before:
                    self._expected[key] = before[key]
                elif holds_images(work.observation):
                    self._expected[key] = (work, Decoding(work.observation, self._clock))
            self._go_on()

    def claim(self, works: Sequence[Work], *, is_later: bool) -> list[Decoding]:
        """The images of works that are started, decoded or not.

        Args:
            works: the batch.
            is_later: other batches run before this one: decodes its images meanwhile.
        """
        with self._changed:
            claimed = []
            for work in works:
                expected = self._expected.pop(id(work.observation), None)
                if expected is None:
                    claimed.append(Decoding(work.observation, self._clock))
                else:
                    claimed.append(expected[1])
            if is_later and not self._is_closed:
                self._in_line += [
                    decoding
                    for work, decoding in zip(works, claimed, strict=True)
                    if holds_images(work.observation)
                ]
                self._go_on()
            return claimed

    def close(self) -> None:
        """Ends the thread, and drops what it decoded."""
        with self._changed:
            self._is_closed = True
            self._expected.clear()
            self._in_line.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _go_on(self) -> None:
        if self._next() is None:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._changed.notify()

    def _next(self) -> Decoding | None:
        while self._in_line:
            decoding = self._in_line[0]
            if not decoding.is_begun:
                return decoding
            del self._in_line[0]
        for _, decoding in self._expected.values():
            if not decoding.is_begun:
                return decoding
        return None

    def _work(self) -> None:
        while True:
            with self._changed:
                while (decoding := self._next()) is None and not self._is_closed:
                    self._changed.wait()
            if decoding is None:
                return
            decoding.run_ahead()
            # it holds an observation, whose buffers are reused when nothing holds them
            del decoding
