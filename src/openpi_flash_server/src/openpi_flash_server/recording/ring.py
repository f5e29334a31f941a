"""The newest records, for as long as they are of interest. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PackedRecord:
    """A record as it is written.

    Attributes:
        topic: of the file.
        at: monotonic s.
        sequence: number of the request.
        data: msgpack.
    """

    topic: str
    at: float
    sequence: int
    data: bytes


class Ring:
    """Keeps records for some time, and forgets the oldest where there are too many bytes.

    Args:
        seconds: how long a record is kept.
        max_bytes: of all records together.
    """

    def __init__(self, *, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._records: deque[PackedRecord] = deque()
        self._bytes = 0

    def add(self, record: PackedRecord) -> None:
        """Keeps a record; those before it may come out."""
        self._records.append(record)
        self._bytes += len(record.data)
        while self._records and self._is_over(record.at):
            self._bytes -= len(self._records.popleft().data)

    def take(self) -> list[PackedRecord]:
        """All records, oldest first; the ring is empty then."""
        records = list(self._records)
        self._records.clear()
        self._bytes = 0
        return records

    def _is_over(self, now: float) -> bool:
        return self._bytes > self._max_bytes or self._records[0].at < now - self._seconds
