"""The end of an MCAP file: what it holds, and where, for readers that do not read all of it."""

from __future__ import annotations

import struct
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openpi_flash_robot.mcap.format import (
    CHUNK_HEAD,
    INDEX_HEAD,
    MAGIC,
    RECORD_HEAD,
    Opcode,
    count_map,
    record,
    text,
)

Times = Mapping[int, Sequence[tuple[int, int]]]
"""By channel: log time and place in the chunk of each of its messages."""


@dataclass(eq=False)
class Summary:
    """What has been written so far.

    Attributes:
        schemas: their records.
        channels: their records.
        counts: messages by channel.
        chunk_indexes: their records.
        metadata_indexes: their records.
        first_ns: earliest log time; None before the first message.
        last_ns: latest log time.
    """

    schemas: list[bytes] = field(default_factory=list)
    channels: list[bytes] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    chunk_indexes: list[bytes] = field(default_factory=list)
    metadata_indexes: list[bytes] = field(default_factory=list)
    first_ns: int | None = None
    last_ns: int = 0

    def add_chunk(self, records: bytes | bytearray, times: Times, start: int) -> bytes:
        """Take a chunk; its bytes, with those of its indexes of messages.

        Args:
            records: the chunk's messages, without compression.
            times: of the messages; not empty.
            start: where the chunk will be in the file.
        """
        stamps = [log_ns for entries in times.values() for log_ns, _ in entries]
        first_ns, last_ns, size = min(stamps), max(stamps), len(records)
        self.first_ns = first_ns if self.first_ns is None else min(self.first_ns, first_ns)
        self.last_ns = max(self.last_ns, last_ns)
        head = (
            CHUNK_HEAD.pack(first_ns, last_ns, size, zlib.crc32(records))
            + text("")
            + struct.pack("<Q", size)
        )
        parts = [RECORD_HEAD.pack(Opcode.CHUNK, len(head) + size), head, records]
        length = sum(map(len, parts))
        end = start + length
        places: dict[int, int] = {}
        for channel, entries in times.items():
            places[channel] = end
            packed = b"".join(struct.pack("<QQ", *entry) for entry in entries)
            index = record(Opcode.MESSAGE_INDEX, INDEX_HEAD.pack(channel, len(packed)) + packed)
            self.counts[channel] += len(entries)
            end += len(index)
            parts.append(index)
        self.chunk_indexes.append(
            record(
                Opcode.CHUNK_INDEX,
                struct.pack("<QQQQ", first_ns, last_ns, start, length)
                + count_map(places)
                + struct.pack("<Q", end - start - length)
                + text("")
                + struct.pack("<QQ", size, size),
            )
        )
        return b"".join(parts)

    def add_metadata(self, name: str, written: bytes, start: int) -> None:
        """Take a record of metadata.

        Args:
            name: of the metadata.
            written: the whole record.
            start: where it is in the file.
        """
        place = struct.pack("<QQ", start, len(written)) + text(name)
        self.metadata_indexes.append(record(Opcode.METADATA_INDEX, place))

    def end(self, start: int) -> bytes:
        """Everything from the end of the data to the end of the file.

        Args:
            start: where the data end.
        """
        data_end = record(Opcode.DATA_END, struct.pack("<I", 0))
        start += len(data_end)
        groups = {
            Opcode.SCHEMA: b"".join(self.schemas),
            Opcode.CHANNEL: b"".join(self.channels),
            Opcode.STATISTICS: self._statistics(),
            Opcode.CHUNK_INDEX: b"".join(self.chunk_indexes),
            Opcode.METADATA_INDEX: b"".join(self.metadata_indexes),
        }
        summary, offsets = b"", b""
        for opcode, group in groups.items():
            if group:
                place = struct.pack("<BQQ", opcode, start + len(summary), len(group))
                offsets += record(Opcode.SUMMARY_OFFSET, place)
            summary += group
        footer = struct.pack("<QQ", start, start + len(summary))
        head = RECORD_HEAD.pack(Opcode.FOOTER, len(footer) + 4)
        crc = struct.pack("<I", zlib.crc32(summary + offsets + head + footer))
        return data_end + summary + offsets + head + footer + crc + MAGIC

    def _statistics(self) -> bytes:
        content = struct.pack(
            "<QHIIIIQQ",
            sum(self.counts.values()),
            len(self.schemas),
            len(self.channels),
            0,
            len(self.metadata_indexes),
            len(self.chunk_indexes),
            self.first_ns or 0,
            self.last_ns,
        )
        return record(Opcode.STATISTICS, content + count_map(self.counts))
