"""One MCAP file of records: msgpack messages on a topic for each slot and kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mcap.writer import CompressionType, Writer

from openpi_flash_server.recording.ring import PackedRecord

ENCODING = "msgpack"
SERVER = "server"
"""Name of the metadata record that says what the server was."""


class McapFile:
    """A file that is being written.

    Args:
        path: must not exist.
        wall_clock_at_zero: ns since 1970 at 0 s of the records' clock.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, *, wall_clock_at_zero: int) -> None:
        self.path = path
        self._offset = wall_clock_at_zero
        self._file = path.open("xb")
        # lz4: several times as fast as zstd, and images do not compress much further
        self._writer = Writer(self._file, _CHUNK, compression=CompressionType.LZ4)
        self._writer.start(profile="", library="openpi-flash")
        self._channels: dict[str, int] = {}

    @property
    def size(self) -> int:
        """Bytes written; a chunk is still in memory."""
        return self._file.tell()

    def describe(self, values: Mapping[str, str]) -> None:
        """Writes what the server is: texts by name."""
        self._writer.add_metadata(SERVER, dict(values))

    def write(self, record: PackedRecord) -> None:
        """Appends a record.

        Raises:
            OSError: the disk is full, or gone.
        """
        channel = self._channels.get(record.topic)
        if channel is None:
            channel = self._writer.register_channel(record.topic, ENCODING, schema_id=0)
            self._channels[record.topic] = channel
        time = self._offset + round(record.at * 1e9)
        self._writer.add_message(
            channel, log_time=time, publish_time=time, data=record.data, sequence=record.sequence
        )

    def flush(self) -> None:
        """Hands whole chunks to the system, so that they are there if the server is killed.

        Raises:
            OSError: the disk is full, or gone.
        """
        self._file.flush()

    def close(self) -> None:
        """Writes the index and closes the file.

        Raises:
            OSError: the disk is full; the file has no index, and can still be read.
        """
        try:
            self._writer.finish()  # type: ignore[no-untyped-call]
        finally:
            self._file.close()

    def abandon(self) -> None:
        """Closes the file as it is, without an index."""
        self._file.close()


_CHUNK = 256 * 1024
"""Bytes that are compressed together, and lost if the server is killed; about an observation."""
