"""What is whole in an MCAP file of `writer.py`: all of it, or all before a process was killed.

Schemas, channels and metadata stand between chunks in these files, so chunks are passed unread, but
for the last one: the disk may not have all of it.
"""

from __future__ import annotations

import struct
import zlib
from collections import defaultdict
from dataclasses import dataclass
from typing import BinaryIO

from openpi_flash_robot.mcap.format import (
    CHUNK_HEAD,
    INDEX_HEAD,
    MAGIC,
    MESSAGE_HEAD,
    RECORD_HEAD,
    Opcode,
    count_map,
    record,
    text,
)
from openpi_flash_robot.mcap.summary import Summary

_PLAIN = len(text("")) + 8
"""Between a chunk's head and its records, where these are not compressed."""


class NotMcapError(ValueError):
    """The file does not begin as MCAP files do."""


@dataclass(frozen=True, eq=False)
class WholePart:
    """The part of a file that can be kept.

    Attributes:
        summary: what it holds.
        end: its length, bytes; another record or the file's end goes there.
    """

    summary: Summary
    end: int


def whole_part(file: BinaryIO) -> WholePart:
    """Find it; the file's position changes.

    Args:
        file: open for reading.

    Raises:
        NotMcapError: nothing is whole, or the file is of another kind.
        OSError: it cannot be read.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise NotMcapError("the file does not begin as MCAP files do")
    return _Scan(file, size).whole()


class _Scan:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._summary = Summary()
        self._at = len(MAGIC)
        self._chunk: tuple[int, int] | None = None
        """Start and length of the newest chunk's record."""
        self._indexes: dict[int, tuple[int, int]] = {}
        """By channel: place of its index of the newest chunk, and how many messages it has."""

    def whole(self) -> WholePart:
        while (head := self._head()) is not None:
            opcode, length = head
            if opcode == Opcode.DATA_END:
                self._close_chunk()
                return WholePart(self._summary, self._at)
            if opcode == Opcode.MESSAGE_INDEX:
                channel, packed = INDEX_HEAD.unpack(self._file.read(INDEX_HEAD.size))
                self._indexes[channel] = self._at, packed // 16
            else:
                self._close_chunk()
                self._take(opcode, length)
            self._at += RECORD_HEAD.size + length
        return WholePart(self._summary, self._end_of_cut_off())

    def _head(self) -> tuple[int, int] | None:
        self._file.seek(self._at)
        head = self._file.read(RECORD_HEAD.size)
        if len(head) < RECORD_HEAD.size:
            return None
        opcode, length = RECORD_HEAD.unpack(head)
        is_whole = 0 < opcode < 0x80 and self._at + RECORD_HEAD.size + length <= self._size
        return (opcode, length) if is_whole else None

    def _take(self, opcode: int, length: int) -> None:
        if opcode == Opcode.CHUNK:
            self._chunk = self._at, RECORD_HEAD.size + length
        elif opcode == Opcode.SCHEMA:
            self._summary.schemas.append(record(Opcode.SCHEMA, self._file.read(length)))
        elif opcode == Opcode.CHANNEL:
            self._summary.channels.append(record(Opcode.CHANNEL, self._file.read(length)))
        elif opcode == Opcode.METADATA:
            content = self._file.read(length)
            (count,) = struct.unpack_from("<I", content)
            name = content[4 : 4 + count].decode(errors="replace")
            self._summary.add_metadata(name, record(Opcode.METADATA, content), self._at)

    def _close_chunk(self) -> None:
        """Take the newest chunk, whose indexes are all there."""
        if self._chunk is None:
            return
        (start, length), summary = self._chunk, self._summary
        self._file.seek(start + RECORD_HEAD.size)
        first_ns, last_ns, size, _ = CHUNK_HEAD.unpack(self._file.read(CHUNK_HEAD.size))
        summary.first_ns = first_ns if summary.first_ns is None else min(summary.first_ns, first_ns)
        summary.last_ns = max(summary.last_ns, last_ns)
        for channel, (_, count) in self._indexes.items():
            summary.counts[channel] += count
        summary.chunk_indexes.append(
            record(
                Opcode.CHUNK_INDEX,
                struct.pack("<QQQQ", first_ns, last_ns, start, length)
                + count_map({channel: at for channel, (at, _) in self._indexes.items()})
                + struct.pack("<Q", self._at - start - length)
                + text("")
                + struct.pack("<QQ", size, size),
            )
        )
        self._chunk = None
        self._indexes = {}
        self._file.seek(self._at + RECORD_HEAD.size)

    def _end_of_cut_off(self) -> int:
        """Take the last chunk if it is what was written; where the whole part ends."""
        if self._chunk is None:
            return self._at
        start, length = self._chunk
        self._file.seek(start + RECORD_HEAD.size)
        _, _, _, crc = CHUNK_HEAD.unpack(self._file.read(CHUNK_HEAD.size))
        self._file.seek(_PLAIN, 1)
        records = self._file.read(length - RECORD_HEAD.size - CHUNK_HEAD.size - _PLAIN)
        found: dict[int, bytes] = defaultdict(bytes)
        at = 0
        if zlib.crc32(records) == crc:
            while at < len(records):
                _, size = RECORD_HEAD.unpack_from(records, at)
                channel, _, log_ns, _ = MESSAGE_HEAD.unpack_from(records, at + RECORD_HEAD.size)
                found[channel] += struct.pack("<QQ", log_ns, at)
                at += RECORD_HEAD.size + size
        if not found or found != {channel: self._index(channel) for channel in self._indexes}:
            return start
        self._close_chunk()
        return self._at

    def _index(self, channel: int) -> bytes:
        at, count = self._indexes[channel]
        self._file.seek(at + RECORD_HEAD.size + INDEX_HEAD.size)
        return self._file.read(count * 16)
