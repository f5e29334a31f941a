"""The bytes of one episode: an MCAP file of ROS messages that `ros2 bag` and Foxglove open."""

from __future__ import annotations

from collections.abc import Callable

from openpi_flash_robot.episodes.definitions import Find, schema_of
from openpi_flash_robot.episodes.entry import Entry
from openpi_flash_robot.episodes.facts import EPISODE, RESULT, Facts
from openpi_flash_robot.mcap.format import Opcode, record, text, text_map
from openpi_flash_robot.mcap.summary import Summary
from openpi_flash_robot.mcap.writer import McapWriter
from openpi_flash_robot.nanoseconds import SECOND

LIBRARY, PROFILE = "openpi-flash episodes", "ros2"
FLUSH_NS = SECOND // 2
"""No message waits longer for its chunk to be written: a process that is killed loses that much."""


class EpisodeFile:
    """Puts the file together; it is complete after `finish`."""

    def __init__(self, write: Callable[[bytes], object], find: Find, facts: Facts) -> None:
        """Write the head.

        Args:
            write: takes the file's bytes, in order.
            find: definitions of messages that are not everywhere the same.
            facts: about the episode.
        """
        self._find = find
        self._file = McapWriter(write, library=LIBRARY, profile=PROFILE)
        self._file.add_metadata(EPISODE, facts)
        self._channels: dict[str, int] = {}
        self._kinds: dict[str, str] = {}
        self._waits_since: int | None = None

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._file.position

    def add(self, now: int, entry: Entry, data: bytes) -> None:
        """Append a message.

        Args:
            now: this moment, ns on a steady clock.
            entry: what it is.
            data: its bytes.

        Raises:
            UnknownTypeError: nobody knows its type's definition.
            ValueError: the topic has messages of another type.
        """
        channel = self._channels.get(entry.topic)
        if channel is None:
            schema = schema_of(entry.kind, self._find)
            channel = self._file.add_channel(entry.topic, schema, "cdr")
            self._channels[entry.topic], self._kinds[entry.topic] = channel, entry.kind
        elif self._kinds[entry.topic] != entry.kind:
            raise ValueError(
                f"{entry.topic} has messages of {self._kinds[entry.topic]} and of {entry.kind}"
            )
        if self._waits_since is None:
            self._waits_since = now
        self._file.add_message(channel, max(0, entry.log_ns), data)
        if not self._file.has_unwritten:
            self._waits_since = None

    def look(self, now: int) -> None:
        """Write the messages that have waited long enough; call it several times a second."""
        if self._waits_since is not None and now - self._waits_since >= FLUSH_NS:
            self._file.end_chunk()
            self._waits_since = None

    def note(self, kind: str, facts: Facts) -> None:
        """Append metadata."""
        self._file.add_metadata(kind, facts)

    def finish(self, facts: Facts) -> None:
        """Write the result and the end."""
        self._file.end_chunk()
        self._file.add_metadata(RESULT, facts)
        self._file.finish()


def end_of(summary: Summary, start: int, facts: Facts) -> bytes:
    """The end of a file whose whole part is known, with another result.

    Args:
        summary: of the whole part.
        start: its length.
        facts: of the result; earlier facts of other names still hold.
    """
    written = record(Opcode.METADATA, text(RESULT) + text_map(facts))
    summary.add_metadata(RESULT, written, start)
    return written + summary.end(start + len(written))
