"""Records the requests and answers of slots, on a thread of its own.

A slot's thread only puts events into a line of bounded size, and never waits: what does not fit is
left out and counted. A disk that is full, slow or gone stops the recording, and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flash_transport import packb
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.recording.folder import Folder
from openpi_flash_server.recording.mcap_file import McapFile
from openpi_flash_server.recording.records import (
    Record,
    answer_record,
    request_record,
    size_of,
)
from openpi_flash_server.recording.ring import PackedRecord, Ring
from openpi_flash_server.slot.answer import Answer, ErrorCode, Failure, Reply
from openpi_flash_server.slot.events import Answered, Dropped, Event, Received, SlotEvent
from openpi_flash_server.slot.session import ShadowSession

log = EventLogger(__name__)

MAX_WAITING_BYTES = 256 * 1024 * 1024
"""Of events that wait to be written."""
TRY_AGAIN_AFTER = 60.0
"""s after a disk was full, or a black box was written."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of requests.

    Attributes:
        requests: whether all of them are written.
        black_box_s: how long they are kept in memory for an error; 0 for not at all.
        black_box_bytes: of memory.
    """

    requests: bool
    black_box_s: float
    black_box_bytes: int


@dataclass(frozen=True, slots=True)
class RecorderState:
    """What became of the records since the start.

    Attributes:
        written: records in files of requests.
        dropped: records that are in no file, because the line or the disk was full.
        black_boxes: that were written.
        black_boxes_failed: that the disk did not take.
        stopped_because: why nothing is written now; None while the disk takes records.
    """

    written: int = 0
    dropped: int = 0
    black_boxes: int = 0
    black_boxes_failed: int = 0
    stopped_because: str | None = None


class Recorder:
    """Writes until it is closed.

    Args:
        folder: takes the files.
        kept: what is written.
        max_waiting_bytes: of events that wait.
        clock: monotonic seconds, the one of the slots' events.
    """

    def __init__(
        self,
        folder: Folder,
        kept: Kept,
        *,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._kept = kept
        self._max_waiting_bytes = max_waiting_bytes
        self._clock = clock
        self._ring = Ring(seconds=kept.black_box_s, max_bytes=kept.black_box_bytes)
        self._file: McapFile | None = None
        self._descriptions: dict[str, str] = {}
        self._stopped_until = 0.0
        self._next_black_box = float("-inf")
        self._state = RecorderState()
        self._dropped_logged = 0
        # guards the line
        self._changed = threading.Condition()
        self._line: deque[tuple[Callable[[], None], int]] = deque()
        self._waiting_bytes = 0
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def listener(self, slot: str) -> Callable[[Event], None]:
        """A listener of the events of a slot; it leaves out copies for a shadow policy."""

        def listen(event: Event) -> None:
            if isinstance(event, SlotEvent) or isinstance(event.session, ShadowSession):
                return
            if isinstance(event, Received):
                size = sum(size_of(work.observation) for work in event.works)
                self._put(lambda: self._record(request_record(slot, event)), size)
            elif isinstance(event, Dropped):
                self._put(lambda: self._end(slot, event), 0)
            elif isinstance(event, Answered):
                ended = dataclasses.replace(event, answer=_frozen(event.answer))
                size = size_of(ended.answer.result) if isinstance(ended.answer, Reply) else 0
                self._put(lambda: self._end(slot, ended), size)

        return listen

    def record(self, record: Record) -> None:
        """Records something else; from any thread."""
        self._put(lambda: self._record(record), size_of(record.value))

    def describe(self, slot: str, metadata: Mapping[str, Any]) -> None:
        """What a slot serves from now on; each file says it."""
        text = json.dumps(metadata, default=str, sort_keys=True)
        self._put(lambda: self._describe(slot, text), 0)

    @property
    def state(self) -> RecorderState:
        """What became of the records."""
        with self._changed:
            return self._state

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self._folder.directory

    def close(self, timeout: float) -> bool:
        """Writes what waits, for at most `timeout` s, and ends the file; returns whether it did."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _put(self, job: Callable[[], None], size: int) -> None:
        size += _OF_AN_EVENT
        with self._changed:
            if self._closing or self._waiting_bytes + size > self._max_waiting_bytes:
                self._count("dropped")
                return
            self._line.append((job, size))
            self._waiting_bytes += size
            if len(self._line) == 1:
                self._changed.notify()

    def _work(self) -> None:
        while not self._is_over():
            self._write_waiting()
            self._flush()
            self._tell_drops()
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        log.info("recording closed", written=self.state.written, dropped=self.state.dropped)

    def _is_over(self) -> bool:
        """Waits for something to write; whether all is written and the recorder is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._line or self._closing)
            # not at once: a slot's thread would wait for the interpreter while this one packs
            self._changed.wait_for(lambda: self._closing, _LINGER)
            return not self._line

    def _write_waiting(self) -> None:
        while True:
            with self._changed:
                if not self._line:
                    return
                job, size = self._line.popleft()
            try:
                job()
            # a record that cannot be packed must not end the recording
            except Exception as error:
                log.error("record left out", exception=error)
                self._drop()
            # the job holds arrays of its request
            del job
            with self._changed:
                self._waiting_bytes -= size

    def _flush(self) -> None:
        try:
            if self._file is not None:
                self._file.flush()
        except OSError as error:
            self._stop(error)

    def _record(self, record: Record) -> None:
        packed = PackedRecord(record.topic, record.at, record.sequence, packb(record.value))
        if self._kept.black_box_s:
            self._ring.add(packed)
        if self._kept.requests:
            self._write(packed)

    def _end(self, slot: str, event: Answered | Dropped) -> None:
        self._record(answer_record(slot, event))
        answer = event.answer
        if isinstance(answer, Failure) and answer.code is ErrorCode.INTERNAL:
            self._write_black_box(slot, event, answer)

    def _describe(self, slot: str, text: str) -> None:
        self._descriptions[slot] = text
        try:
            if self._file is not None:
                self._file.describe(self._descriptions)
        except OSError as error:
            self._stop(error)

    def _write(self, record: PackedRecord) -> None:
        if self._clock() < self._stopped_until:
            self._drop()
            return
        try:
            self._current_file().write(record)
        except OSError as error:
            self._stop(error)
            self._drop()
            return
        self._count("written")

    def _current_file(self) -> McapFile:
        if self._file is not None and self._file.size >= self._folder.file_bytes:
            done, self._file = self._file, None
            done.close()
        if self._file is None:
            self._file = self._folder.open_requests(self._clock())
            self._file.describe(self._descriptions)
            if self.state.stopped_because is not None:
                log.info("recording goes on", file=self._file.path)
                self._set(stopped_because=None)
        return self._file

    def _stop(self, error: OSError) -> None:
        """Stops the recording for some time: the disk does not take it."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.abandon()
            self._file = None
        self._stopped_until = self._clock() + TRY_AGAIN_AFTER
        if self.state.stopped_because is None:
            log.error(
                "RECORDING STOPPED, the server goes on; it tries again every minute",
                reason=str(error),
                directory=self._folder.directory,
            )
        self._set(stopped_because=str(error))

    def _write_black_box(self, slot: str, event: Answered | Dropped, answer: Failure) -> None:
        if not self._kept.black_box_s or event.at < self._next_black_box:
            return
        self._next_black_box = event.at + TRY_AGAIN_AFTER
        try:
            file = self._folder.open_black_box(self._clock())
            try:
                reason = {"reason": answer.message, "slot": slot, "request": str(event.request)}
                file.describe({**self._descriptions, **reason})
                for record in self._ring.take():
                    file.write(record)
            finally:
                file.close()
        except OSError as error:
            self._count("black_boxes_failed")
            log.error("black box could not be written", reason=str(error))
        else:
            self._count("black_boxes")
            log.warning("black box written", file=file.path, slot=slot, reason=answer.message)

    def _drop(self) -> None:
        self._count("dropped")

    def _count(self, what: _Counted) -> None:
        with self._changed:
            self._set(**{what: getattr(self._state, what) + 1})

    def _set(self, **changed: Any) -> None:
        with self._changed:
            self._state = dataclasses.replace(self._state, **changed)

    def _tell_drops(self) -> None:
        """Logs once when the line begins to overflow, and again when ten times as many are lost."""
        state = self.state
        dropped = state.dropped
        if dropped > 10 * self._dropped_logged and state.stopped_because is None:
            self._dropped_logged = dropped
            log.warning("records are lost: the disk is slower than the requests", records=dropped)


def _frozen(answer: Answer) -> Answer:
    """The answer as it is now: a transport adds to the map that it sends."""
    if not isinstance(answer, Reply):
        return answer
    result = {
        key: dict(value) if isinstance(value, dict) else value
        for key, value in answer.result.items()
    }
    return Reply(result)


_Counted = Literal["written", "dropped", "black_boxes", "black_boxes_failed"]

_LINGER = 0.05
"""s between an event and its writing. A request of a null policy took 0.8 ms instead of 0.35 where
its record was packed at once, beside it."""
_OF_AN_EVENT = 1024
"""Bytes of an event besides its arrays, about."""
