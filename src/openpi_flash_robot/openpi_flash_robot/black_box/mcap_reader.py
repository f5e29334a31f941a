"""Reads what `mcap/writer.py` has written, also a file that ends too soon."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from openpi_flash_robot.mcap.format import (
    CHUNK_HEAD,
    MAGIC,
    MESSAGE_HEAD,
    RECORD_HEAD,
    Opcode,
)


class NotABlackBoxError(ValueError):
    """The file is none that the black box has written. The message says why."""


class Message(NamedTuple):
    """A message of the file.

    Attributes:
        topic: of its channel.
        log_ns: when it was recorded.
        data: its bytes.
    """

    topic: str
    log_ns: int
    data: bytes


def read_messages(content: bytes) -> Iterator[Message]:
    """The messages in the order of the file; of a file that ends too soon, those that are whole.

    Raises:
        NotABlackBoxError: it is no MCAP file, or one with compressed chunks.
    """
    if not content.startswith(MAGIC):
        raise NotABlackBoxError("the file does not begin as MCAP files do")
    topics: dict[int, str] = {}
    for opcode, body in _records(memoryview(content)[len(MAGIC) :]):
        if opcode == Opcode.DATA_END:
            return
        inside = _records(_chunk(body)) if opcode == Opcode.CHUNK else iter([(opcode, body)])
        for kind, record in inside:
            if kind == Opcode.CHANNEL:
                (channel,) = struct.unpack_from("<H", record)
                topics[channel] = _text(record[4:])
            elif kind == Opcode.MESSAGE:
                channel, _, log_ns, _ = MESSAGE_HEAD.unpack_from(record)
                if channel in topics:
                    yield Message(topics[channel], log_ns, bytes(record[MESSAGE_HEAD.size :]))


def _records(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at + RECORD_HEAD.size <= len(content):
        opcode, length = RECORD_HEAD.unpack_from(content, at)
        at += RECORD_HEAD.size
        if at + length > len(content):
            return
        yield opcode, content[at : at + length]
        at += length


def _chunk(body: memoryview) -> memoryview:
    compression = _text(body[CHUNK_HEAD.size :])
    if compression:
        raise NotABlackBoxError(
            f"its chunks are compressed with {compression}; the black box writes them plain, "
            "`mcap compress` undoes that with --compression none"
        )
    return body[CHUNK_HEAD.size + 4 + 8 :]


def _text(content: memoryview) -> str:
    if len(content) < 4:
        return ""
    (length,) = struct.unpack_from("<I", content)
    return bytes(content[4 : 4 + length]).decode(errors="replace")
