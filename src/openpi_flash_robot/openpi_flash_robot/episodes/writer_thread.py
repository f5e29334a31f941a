"""A thread that writes episodes, so that no disk and no encoder delays the control loop.

The control loop appends to a queue and wakes nobody: the thread looks at the queue by itself. The
queue is bounded in bytes; what does not fit is dropped, counted by topic, and named in the file.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from openpi_flash_robot.episodes.definitions import Find, UnknownTypeError
from openpi_flash_robot.episodes.entry import Entry
from openpi_flash_robot.episodes.episode_file import EpisodeFile
from openpi_flash_robot.episodes.facts import Facts
from openpi_flash_robot.episodes.folder import EpisodeError, EpisodeFolder

MAX_QUEUED_BYTES = 128_000_000
"""More than a second of three raw cameras: as long as a disk may be away."""
POLL_S = 0.05
SLICE_S, PAUSE_S = 0.002, 0.001
"""The thread works for this long at a time and then pauses for the control loop, which waits for
the interpreter."""
SYNC_S = 1.0
"""Between two moments at which the disk has all that was written: what a power cut may take."""
SPACE_CHECK_BYTES = 16_000_000
"""Between two looks at the free space."""


@dataclass(frozen=True)
class Finished:
    """A file is whole.

    Attributes:
        name: of the file.
        bytes: how large it is.
        dropped: messages that are not in it, by topic.
    """

    name: str
    bytes: int
    dropped: dict[str, int]


@dataclass(frozen=True)
class Recovered:
    """A file of a process that was killed is whole now.

    Attributes:
        name: of the file.
    """

    name: str


@dataclass(frozen=True)
class Failed:
    """Something cannot be written.

    Attributes:
        name: of the file; empty if it is the folder.
        message: why, and what to do.
        ends: whether the episode has ended by it.
    """

    name: str
    message: str
    ends: bool = True


Outcome = Finished | Recovered | Failed


@dataclass(eq=False)
class _Open:
    """The file that is being written."""

    name: str
    file: BinaryIO
    episode: EpisodeFile
    checked: int = 0
    synced_at: float = 0.0
    synced: int = 0


class WriterThread:
    """Writes one episode at a time; nothing here blocks the caller but `close`.

    All methods belong to one thread, or are called under one lock.
    """

    def __init__(self, folder: EpisodeFolder, find: Find) -> None:
        """Begin, with a look at the folder and at files that are not whole.

        Args:
            folder: where the files go.
            find: definitions of messages that are not everywhere the same; called on the thread.
        """
        self._folder, self._find = folder, find
        self._queue: deque[Entry | Callable[[], None]] = deque()
        self._bytes_in = self._bytes_out = 0
        self._dropped: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._outcomes: deque[Outcome] = deque()
        self._open: _Open | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="episode_writer", daemon=True)
        self._thread.start()

    # --- orders, as `recorder.Files` ---

    def begin(self, name: str, facts: Facts) -> None:
        """Begin a file."""
        self._dropped = Counter()
        self._queue.append(partial(self._begin, name, facts))

    def add(self, entry: Entry) -> None:
        """Append a message, unless the queue is full."""
        if self._bytes_in - self._bytes_out + entry.size > MAX_QUEUED_BYTES:
            self._dropped[entry.topic] += 1
            return
        self._bytes_in += entry.size
        self._queue.append(entry)

    def note(self, kind: str, facts: Facts) -> None:
        """Append metadata."""
        self._queue.append(partial(self._note, kind, facts))

    def finish(self, facts: Facts) -> None:
        """Make the file whole."""
        self._queue.append(partial(self._finish, facts, self._dropped))

    def discard(self) -> None:
        """Remove the file."""
        self._queue.append(self._discard)

    def revise(self, name: str, facts: Facts) -> None:
        """Change the result of a whole file."""
        self._queue.append(partial(self._change, name, partial(self._folder.revise, name, facts)))

    def remove(self, name: str) -> None:
        """Remove a whole file."""
        self._queue.append(partial(self._change, name, partial(self._folder.remove, name)))

    @property
    def dropped(self) -> int:
        """Messages of the running episode that did not fit into the queue."""
        return sum(self._dropped.values())

    def outcomes(self) -> list[Outcome]:
        """What has come of it since the last call."""
        found = []
        while self._outcomes:
            found.append(self._outcomes.popleft())
        return found

    def close(self, timeout: float) -> bool:
        """Write what is queued, and end; whether that was done in time.

        Args:
            timeout: seconds; a thread that is still at work then is left behind.
        """
        self._closing.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # --- the thread ---

    def _run(self) -> None:
        self._look_at_folder()
        self._recover()
        is_last = False
        while not is_last:
            is_last = self._closing.wait(POLL_S)
            self._work_off()
            if self._open is not None:
                self._guarded(self._look)
        if self._open is not None:
            self._guarded(partial(self._finish, {"ended": "the recorder ended"}, self._dropped))

    def _work_off(self) -> None:
        began = time.perf_counter()
        while self._queue:
            entry = self._queue.popleft()
            if isinstance(entry, Entry):
                self._bytes_out += entry.size
                if self._open is not None:
                    self._guarded(partial(self._append, self._open, entry))
            else:
                self._guarded(entry)
            if time.perf_counter() - began > SLICE_S and not self._closing.is_set():
                if self._open is not None:
                    self._guarded(self._look)
                time.sleep(PAUSE_S)
                began = time.perf_counter()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do something; an error ends the episode and not the robot."""
        try:
            work()
        except Exception as error:
            message = str(error)
            if isinstance(error, OSError):
                message = f"cannot write to {self._folder.path}: {error.strerror or error}"
            elif not isinstance(error, EpisodeError):
                message = f"the recorder failed: {error!r}"
            self._fail(message)

    def _fail(self, message: str) -> None:
        opened, self._open = self._open, None
        if opened is None:
            self._outcomes.append(Failed("", message))
            return
        try:
            self._folder.save(opened.name, opened.file, f"by an error: {message}")
            kept = f"{opened.name} holds what came before"
        except EpisodeError:
            kept = f"{opened.name}.partial holds what came before; the next start makes it whole"
        self._outcomes.append(Failed(opened.name, f"the episode has ended: {message}; {kept}"))

    def _begin(self, name: str, facts: Facts) -> None:
        try:
            file = self._folder.create(name)
        except EpisodeError as error:
            self._outcomes.append(Failed(name, str(error)))
            return

        def write(data: bytes) -> None:
            file.write(data)
            file.flush()

        self._left_out = Counter()
        self._open = _Open(name, file, EpisodeFile(write, self._find, facts))

    def _append(self, opened: _Open, entry: Entry) -> None:
        try:
            data = entry.data if isinstance(entry.data, bytes) else entry.data()
            opened.episode.add(time.monotonic_ns(), entry, data)
        except (UnknownTypeError, ValueError) as error:  # of a sensor that is not to be trusted
            self._left_out[entry.topic] += 1
            if self._left_out[entry.topic] == 1:
                message = f"messages of {entry.topic} are not recorded: {error}"
                self._outcomes.append(Failed(opened.name, message, ends=False))

    def _look(self) -> None:
        """Write what has waited long enough, and have the disk keep it."""
        opened = self._open
        if opened is None:
            return
        opened.episode.look(time.monotonic_ns())
        if opened.episode.size - opened.checked > SPACE_CHECK_BYTES:
            opened.checked = opened.episode.size
            self._folder.check()
        now = time.monotonic()
        if opened.episode.size > opened.synced and now - opened.synced_at > SYNC_S:
            opened.synced, opened.synced_at = opened.episode.size, now
            os.fsync(opened.file.fileno())

    def _note(self, kind: str, facts: Facts) -> None:
        if self._open is not None:
            self._open.episode.note(kind, facts)

    def _finish(self, facts: Facts, dropped: Counter[str]) -> None:
        if self._open is None:
            return
        opened = self._open
        missing = dict(dropped + self._left_out)
        told = ", ".join(f"{topic} {count}" for topic, count in sorted(missing.items()))
        opened.episode.finish({**facts, "dropped": told or "0"})
        self._folder.complete(opened.name, opened.file)
        self._open = None
        self._outcomes.append(Finished(opened.name, opened.episode.size, missing))

    def _discard(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            self._change(opened.name, partial(self._folder.discard, opened.name, opened.file))

    def _change(self, name: str, change: Callable[[], None]) -> None:
        try:
            change()
        except (EpisodeError, ValueError) as error:
            self._outcomes.append(Failed(name, str(error), ends=False))

    def _look_at_folder(self) -> None:
        try:
            self._folder.check()
        except EpisodeError as error:
            self._outcomes.append(Failed("", str(error)))

    def _recover(self) -> None:
        made, problems = self._folder.recover()
        self._outcomes.extend(Recovered(name) for name in made)
        self._outcomes.extend(Failed("", problem, ends=False) for problem in problems)
