"""Reads what was recorded: the requests of a file, each with its answer."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.exceptions import McapError
from mcap.records import Channel, Message, Metadata
from mcap.stream_reader import StreamReader

from flash_transport import CodecError, unpackb
from openpi_flash_server.recording.mcap_file import ENCODING, SERVER
from openpi_flash_server.recording.records import ANSWER, REQUEST, parse_topic


class RecordingError(Exception):
    """A file is no recording of this server; the message says what it is."""


@dataclass(frozen=True)
class Exchange:
    """A request and its answer.

    Attributes:
        request: its number in the slot.
        session: whose.
        messages: one for each observation.
        answer: `{result}` or `{error: {code, message}}`; None if it is not in the file.
        log_time: when the request came, ns since 1970.
    """

    request: int
    session: str
    messages: tuple[Mapping[str, Any], ...]
    answer: Mapping[str, Any] | None
    log_time: int


@dataclass(frozen=True)
class Recording:
    """What a file holds of one slot.

    Attributes:
        exchanges: in the order in which the requests came.
        metadata: what the server told clients of the slot.
        is_cut: whether the file ends in the middle, as after a crash.
    """

    exchanges: tuple[Exchange, ...]
    metadata: Mapping[str, Any]
    is_cut: bool


def read_recording(path: Path, *, slot: str = "action") -> Recording:
    """Reads a file, as far as it goes.

    Raises:
        OSError: it cannot be read.
        RecordingError: it is no recording.
    """
    requests: dict[int, tuple[Mapping[str, Any], int]] = {}
    answers: dict[int, Mapping[str, Any]] = {}
    metadata: Mapping[str, Any] = {}
    channels: dict[int, tuple[str, str]] = {}
    is_cut = False
    with path.open("rb") as file:
        records = _records(file)
        while True:
            try:
                record = next(records)
            except StopIteration:
                break
            except _Cut:
                is_cut = True
                break
            if isinstance(record, Metadata) and record.name == SERVER and slot in record.metadata:
                metadata = json.loads(record.metadata[slot])
            elif isinstance(record, Channel):
                topic = parse_topic(record.topic)
                if topic is not None and record.message_encoding == ENCODING:
                    channels[record.id] = topic
            elif isinstance(record, Message) and record.channel_id in channels:
                found, kind = channels[record.channel_id]
                if found != slot:
                    continue
                value = _unpacked(record.data, path)
                if kind == REQUEST:
                    requests[record.sequence] = value, record.log_time
                elif kind == ANSWER:
                    answers[record.sequence] = value
    exchanges = tuple(
        Exchange(
            request=number,
            session=str(value.get("session", "")),
            messages=tuple(value.get("messages", ())),
            answer=answers.get(number),
            log_time=log_time,
        )
        for number, (value, log_time) in requests.items()
    )
    return Recording(exchanges, metadata, is_cut)


class _Cut(Exception):  # noqa: N818 - the file ends; what came before is good
    """The rest of the file cannot be read."""


def _records(file: Any) -> Iterator[Any]:
    reader = StreamReader(file).records
    is_first = True
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        # the library's readers raise errors of the formats below for a chunk that is cut
        except (McapError, struct.error, EOFError, ValueError, RuntimeError) as error:
            if is_first:
                raise RecordingError(f"{file.name}: not an MCAP file: {error}") from error
            raise _Cut from error
        is_first = False
        yield record


def _unpacked(data: bytes, path: Path) -> Mapping[str, Any]:
    try:
        value = unpackb(data)
    except CodecError as error:
        raise RecordingError(f"{path}: a record cannot be unpacked: {error}") from error
    if not isinstance(value, Mapping):
        raise RecordingError(f"{path}: a record is {type(value).__name__}, expected a map")
    return value
