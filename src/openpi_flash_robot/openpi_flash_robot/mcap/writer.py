"""Writes MCAP: chunks without compression, an index, statistics. Knows neither files nor clocks.

Compression needs packages that a robot may not have; `gzip` makes a quarter of such a file.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from openpi_flash_robot.mcap.format import (
    MAGIC,
    MESSAGE_HEAD,
    RECORD_HEAD,
    Opcode,
    record,
    text,
    text_map,
)
from openpi_flash_robot.mcap.summary import Summary

CHUNK_BYTES = 64 * 1024
"""A chunk is written when it has grown larger than this; that takes a millisecond."""


@dataclass(frozen=True)
class Schema:
    """What the messages of a channel hold.

    Attributes:
        name: as viewers know it, such as "foxglove.Log" or "std_msgs/msg/Bool".
        encoding: of `data`: "jsonschema" or "ros2msg".
        data: the schema itself.
    """

    name: str
    encoding: str
    data: bytes


class McapWriter:
    """Puts one file together; the file is complete after `finish`."""

    def __init__(
        self, write: Callable[[bytes], object], *, library: str, profile: str = ""
    ) -> None:
        """Write the head.

        Args:
            write: takes the file's bytes, in order.
            library: who writes.
            profile: "ros2" for channels of ROS 2.
        """
        self._write_bytes = write
        self._position = 0
        self._summary = Summary()
        self._schemas: dict[str, int] = {}
        self._sequences: dict[int, int] = defaultdict(int)
        self._chunk = bytearray()
        self._times: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._write(MAGIC + record(Opcode.HEADER, text(profile) + text(library)))

    @property
    def position(self) -> int:
        """How many bytes have been written."""
        return self._position

    @property
    def has_unwritten(self) -> bool:
        """Whether messages wait for their chunk to be written."""
        return bool(self._times)

    def add_channel(self, topic: str, schema: Schema, encoding: str, **metadata: str) -> int:
        """A channel; its number.

        Args:
            topic: where its messages appear.
            schema: of its messages; those of one name are equal.
            encoding: of its messages: "json" or "cdr".
            metadata: for people.
        """
        if schema.name not in self._schemas:
            self._schemas[schema.name] = len(self._schemas) + 1
            content = (
                struct.pack("<H", self._schemas[schema.name])
                + text(schema.name)
                + text(schema.encoding)
                + struct.pack("<I", len(schema.data))
                + schema.data
            )
            self._summary.schemas.append(record(Opcode.SCHEMA, content))
            self._write(self._summary.schemas[-1])
        channel_id = len(self._summary.channels) + 1
        content = (
            struct.pack("<HH", channel_id, self._schemas[schema.name])
            + text(topic)
            + text(encoding)
            + text_map(metadata)
        )
        self._summary.channels.append(record(Opcode.CHANNEL, content))
        self._write(self._summary.channels[-1])
        return channel_id

    def add_message(self, channel: int, log_ns: int, data: bytes) -> None:
        """Append a message.

        Args:
            channel: its number.
            log_ns: when it was recorded, >= 0.
            data: in the channel's encoding.
        """
        self._sequences[channel] += 1
        self._times[channel].append((log_ns, len(self._chunk)))
        self._chunk += RECORD_HEAD.pack(Opcode.MESSAGE, MESSAGE_HEAD.size + len(data))
        self._chunk += MESSAGE_HEAD.pack(channel, self._sequences[channel], log_ns, log_ns)
        self._chunk += data
        if len(self._chunk) > CHUNK_BYTES:
            self.end_chunk()

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """Write facts about the file."""
        written = record(Opcode.METADATA, text(name) + text_map(values))
        self._summary.add_metadata(name, written, self._position)
        self._write(written)

    def end_chunk(self) -> None:
        """Write the messages that wait; those of a chunk are written at once, with its index."""
        if not self._times:
            return
        self._write(self._summary.add_chunk(self._chunk, self._times, self._position))
        self._chunk = bytearray()
        self._times.clear()

    def finish(self) -> None:
        """Write the summary and the end."""
        self.end_chunk()
        self._write(self._summary.end(self._position))

    def _write(self, data: bytes) -> None:
        self._write_bytes(data)
        self._position += len(data)
