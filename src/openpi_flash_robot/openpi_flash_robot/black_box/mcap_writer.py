"""Writes MCAP: chunks without compression, an index, statistics. Knows neither files nor clocks.

Compression needs packages that a robot may not have; `gzip` makes a quarter of such a file.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from openpi_flash_robot.black_box.mcap_format import (
    CHUNK_HEAD,
    MAGIC,
    MESSAGE_HEAD,
    RECORD_HEAD,
    Opcode,
    count_map,
    record,
    text,
    text_map,
)

CHUNK_BYTES = 64 * 1024
"""A chunk is written when it has grown larger than this; that takes a millisecond."""
LIBRARY = "openpi-flash black box"


class McapWriter:
    """Puts one file together; the file is complete after `finish`."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """Write the head.

        Args:
            write: takes the file's bytes, in order.
        """
        self._write_bytes = write
        self._position = 0
        self._schemas: dict[str, bytes] = {}
        self._channels: list[bytes] = []
        self._counts: dict[int, int] = defaultdict(int)
        self._chunk_indexes: list[bytes] = []
        self._chunk = bytearray()
        self._times: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._first_ns, self._last_ns = _NO_TIME, 0
        self._write(MAGIC + record(Opcode.HEADER, text("") + text(LIBRARY)))

    def add_channel(
        self, topic: str, schema_name: str, schema: Mapping[str, Any], **metadata: str
    ) -> int:
        """A channel for JSON messages; its number.

        Args:
            topic: where its messages appear.
            schema_name: as viewers know it, such as "foxglove.Log"; the same schema every time.
            schema: in JSON Schema.
            metadata: for people.
        """
        if schema_name not in self._schemas:
            data = json.dumps(schema).encode()
            content = (
                struct.pack("<H", len(self._schemas) + 1)
                + text(schema_name)
                + text("jsonschema")
                + struct.pack("<I", len(data))
                + data
            )
            self._schemas[schema_name] = record(Opcode.SCHEMA, content)
            self._chunk += self._schemas[schema_name]
        schema_id = list(self._schemas).index(schema_name) + 1
        channel_id = len(self._channels) + 1
        content = (
            struct.pack("<HH", channel_id, schema_id)
            + text(topic)
            + text("json")
            + text_map(metadata)
        )
        self._channels.append(record(Opcode.CHANNEL, content))
        self._chunk += self._channels[-1]
        return channel_id

    def add_message(self, channel: int, log_ns: int, data: bytes) -> None:
        """Append a message.

        Args:
            channel: its number.
            log_ns: when it was recorded, >= 0.
            data: JSON in UTF-8.
        """
        self._counts[channel] += 1
        self._times[channel].append((log_ns, len(self._chunk)))
        self._chunk += RECORD_HEAD.pack(Opcode.MESSAGE, MESSAGE_HEAD.size + len(data))
        self._chunk += MESSAGE_HEAD.pack(channel, self._counts[channel], log_ns, log_ns)
        self._chunk += data
        if len(self._chunk) > CHUNK_BYTES:
            self._end_chunk()

    def finish(self) -> None:
        """Write the summary and the end."""
        self._end_chunk()
        self._write(record(Opcode.DATA_END, struct.pack("<I", 0)))
        start = self._position
        groups = {
            Opcode.SCHEMA: b"".join(self._schemas.values()),
            Opcode.CHANNEL: b"".join(self._channels),
            Opcode.STATISTICS: self._statistics(),
            Opcode.CHUNK_INDEX: b"".join(self._chunk_indexes),
        }
        summary, offsets = b"", b""
        for opcode, group in groups.items():
            if group:
                place = struct.pack("<BQQ", opcode, start + len(summary), len(group))
                offsets += record(Opcode.SUMMARY_OFFSET, place)
            summary += group
        footer = struct.pack("<QQ", start, start + len(summary))
        head = RECORD_HEAD.pack(Opcode.FOOTER, len(footer) + 4)
        crc = zlib.crc32(summary + offsets + head + footer)
        self._write(summary + offsets + head + footer + struct.pack("<I", crc) + MAGIC)

    def _statistics(self) -> bytes:
        first_ns = 0 if self._first_ns == _NO_TIME else self._first_ns
        content = struct.pack(
            "<QHIIIIQQ",
            sum(self._counts.values()),
            len(self._schemas),
            len(self._channels),
            0,
            0,
            len(self._chunk_indexes),
            first_ns,
            self._last_ns,
        )
        return record(Opcode.STATISTICS, content + count_map(self._counts))

    def _end_chunk(self) -> None:
        if not self._times:
            return
        times = [log_ns for entries in self._times.values() for log_ns, _ in entries]
        first_ns, last_ns, size = min(times), max(times), len(self._chunk)
        self._first_ns = min(self._first_ns, first_ns)
        self._last_ns = max(self._last_ns, last_ns)
        content = (
            CHUNK_HEAD.pack(first_ns, last_ns, size, zlib.crc32(self._chunk))
            + text("")
            + struct.pack("<Q", size)
            + self._chunk
        )
        start = self._position
        self._write(record(Opcode.CHUNK, content))
        end = self._position
        places: dict[int, int] = {}
        for channel, entries in self._times.items():
            places[channel] = self._position
            packed = b"".join(struct.pack("<QQ", *entry) for entry in entries)
            index = struct.pack("<HI", channel, len(packed)) + packed
            self._write(record(Opcode.MESSAGE_INDEX, index))
        self._chunk_indexes.append(
            record(
                Opcode.CHUNK_INDEX,
                struct.pack("<QQQQ", first_ns, last_ns, start, end - start)
                + count_map(places)
                + struct.pack("<Q", self._position - end)
                + text("")
                + struct.pack("<QQ", size, size),
            )
        )
        self._chunk = bytearray()
        self._times.clear()

    def _write(self, data: bytes) -> None:
        self._write_bytes(data)
        self._position += len(data)


_NO_TIME = 2**64 - 1
