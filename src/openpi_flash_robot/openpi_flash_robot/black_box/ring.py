"""The newest items, bounded by time and by bytes.

Python's garbage collector walks over whatever it tracks, and the control loop waits for it. So an
entry is a plain tuple: one that holds numbers, bytes and arrays alone is soon tracked no more.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class Moment(NamedTuple):
    """One moment on two clocks, nanoseconds.

    Attributes:
        ros_ns: on the ROS clock, as in stamps; a simulator may stop it or set it back.
        steady_ns: on a clock that always goes on; what durations are measured with.
    """

    ros_ns: int
    steady_ns: int


Entry = tuple[int, int, int, Item]
"""When an item came (`ros_ns`, `steady_ns` of its moment), how many bytes it takes, the item."""


class Ring(Generic[Item]):
    """Drops the oldest items when they are too old, or when all take too much memory.

    Attributes:
        bytes: what its items take, by what `add` was told.
        dropped: items that were dropped because of their size, before they were too old.
    """

    def __init__(self, length_ns: int, max_bytes: int) -> None:
        """Start empty.

        Args:
            length_ns: how long an item is kept, on the steady clock.
            max_bytes: what all items together may take.
        """
        self._length_ns = length_ns
        self._max_bytes = max_bytes
        self._entries: deque[Entry[Item]] = deque()
        self.bytes = 0
        self.dropped = 0

    def add(self, at: Moment, size: int, item: Item) -> None:
        """Keep an item; each item is appended and dropped once, so the cost is constant.

        Args:
            at: now; `steady_ns` never decreases.
            size: bytes of memory that it takes. One that is larger than the whole ring is not kept.
            item: what to keep; nobody may change it any more.
        """
        size += ENTRY_BYTES
        if size > self._max_bytes:
            self.dropped += 1
            return
        entries = self._entries
        entries.append((at.ros_ns, at.steady_ns, size, item))
        self.bytes += size
        oldest_ns = at.steady_ns - self._length_ns
        while entries[0][1] < oldest_ns:
            self.bytes -= entries.popleft()[2]
        while self.bytes > self._max_bytes:
            self.bytes -= entries.popleft()[2]
            self.dropped += 1

    def snapshot(self) -> tuple[Entry[Item], ...]:
        """Everything that is in it, oldest first."""
        return tuple(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


ENTRY_BYTES = 300
"""What an item takes besides its own bytes: the entry, the moment, a small object."""
