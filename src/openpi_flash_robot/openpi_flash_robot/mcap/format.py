"""MCAP's records as bytes (https://mcap.dev/spec): opcodes, and how fields are laid out."""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping

MAGIC = b"\x89MCAP0\r\n"


class Opcode(enum.IntEnum):
    """The kinds of records in use."""

    HEADER = 0x01
    FOOTER = 0x02
    SCHEMA = 0x03
    CHANNEL = 0x04
    MESSAGE = 0x05
    CHUNK = 0x06
    MESSAGE_INDEX = 0x07
    CHUNK_INDEX = 0x08
    STATISTICS = 0x0B
    METADATA = 0x0C
    METADATA_INDEX = 0x0D
    SUMMARY_OFFSET = 0x0E
    DATA_END = 0x0F


MESSAGE_HEAD = struct.Struct("<HIQQ")
"""Channel, sequence, log time, publish time; the data follow."""
RECORD_HEAD = struct.Struct("<BQ")
"""Opcode and length of what follows."""
CHUNK_HEAD = struct.Struct("<QQQI")
"""First and last log time, size, CRC; the compression's name and the records follow."""

INDEX_HEAD = struct.Struct("<HI")
"""Channel and length of a message index; log time and place of each message follow."""


def record(opcode: Opcode, content: bytes) -> bytes:
    """A whole record."""
    return RECORD_HEAD.pack(opcode, len(content)) + content


def text(value: str) -> bytes:
    """A string behind its length."""
    encoded = value.encode()
    return struct.pack("<I", len(encoded)) + encoded


def text_map(values: Mapping[str, str]) -> bytes:
    """A map of strings behind its length in bytes."""
    packed = b"".join(text(key) + text(value) for key, value in values.items())
    return struct.pack("<I", len(packed)) + packed


def count_map(values: Mapping[int, int]) -> bytes:
    """A map from a channel to a number, behind its length in bytes."""
    packed = b"".join(struct.pack("<HQ", key, value) for key, value in values.items())
    return struct.pack("<I", len(packed)) + packed
