"""Messages of recordings: rosbag2 folders (SQLite, MCAP) and single MCAP files.

A file whose recorder was killed ends in the middle: what is whole before that is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mcap.exceptions import McapError
from mcap.records import Channel, Message, Metadata, Schema
from mcap.stream_reader import StreamReader
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore

from openpi_flash_training.episodes.error import DataError


@dataclass(frozen=True)
class RawMessage:
    """One message.

    Attributes:
        topic: of the message.
        received: when it was recorded, ns.
        data: serialised, CDR.
    """

    topic: str
    received: int
    data: bytes


@dataclass(frozen=True)
class MessageFile:
    """A recording with messages.

    Attributes:
        path: file or folder.
        types: type of each topic, as ``sensor_msgs/msg/Image``.
        messages: all messages of some topics, in the order of the file; raises DataError.
        decode: a message of a type as an object with its fields.
        facts: what the recorder wrote beside the messages.
        notes: what is odd about the file; filled while messages are read.
    """

    path: Path
    types: Mapping[str, str]
    messages: Callable[[frozenset[str]], Iterator[RawMessage]]
    decode: Callable[[bytes, str], Any]
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def is_recording(path: Path) -> bool:
    """Whether a path is a rosbag2 folder or an MCAP file."""
    return path.suffix == ".mcap" or (path.is_dir() and bool(_bag_files(path)))


def open_messages(path: Path) -> MessageFile:
    """Open a recording.

    Raises:
        DataError: it is missing, or not a recording.
    """
    if path.suffix == ".mcap" and path.is_file():
        return _open_mcap(path, [path])
    files = _bag_files(path) if path.is_dir() else []
    if not files:
        raise DataError(path, "is neither an MCAP file nor the folder of a rosbag2")
    if files[0].suffix == ".mcap":
        return _open_mcap(path, files)
    if not (path / "metadata.yaml").exists():
        raise DataError(
            path, "has no metadata.yaml, its recorder was killed: run `ros2 bag reindex` on it"
        )
    return _open_sqlite(path)


def _bag_files(folder: Path) -> list[Path]:
    """The storage files of a bag, which may be split.

    MCAP files without the bag's metadata are recordings of their own.
    """
    for pattern in ("*.mcap", "*.db3", "*.db3.zstd"):
        found = sorted(folder.glob(pattern), key=lambda file: (len(file.name), file.name))
        if found and (pattern != "*.mcap" or (folder / "metadata.yaml").exists()):
            return found
    return []


def _open_sqlite(path: Path) -> MessageFile:
    store = get_typestore(Stores.LATEST)
    try:
        with AnyReader([path], default_typestore=store) as reader:
            types = {c.topic: c.msgtype for c in reader.connections}
            # definitions in the bag are those that it was recorded with
            store = reader.typestore
    except (AnyReaderError, OSError, TypesysError) as error:
        raise DataError(path, f"cannot be read: {error}") from error

    def messages(topics: frozenset[str]) -> Iterator[RawMessage]:
        try:
            with AnyReader([path], default_typestore=get_typestore(Stores.LATEST)) as reader:
                wanted = [c for c in reader.connections if c.topic in topics]
                if wanted:
                    for connection, received, data in reader.messages(wanted):
                        yield RawMessage(connection.topic, received, bytes(data))
        except (AnyReaderError, OSError) as error:
            raise DataError(path, f"cannot be read: {error}") from error

    return MessageFile(path, types, messages, store.deserialize_cdr)


def _open_mcap(path: Path, files: list[Path]) -> MessageFile:
    types: dict[str, str] = {}
    facts: dict[str, str] = {}
    schemas: dict[str, str] = {}
    for file in files:
        known: dict[int, Schema] = {}
        for record in _records(file, [], all_records=False):
            if isinstance(record, Schema):
                known[record.id] = record
            elif isinstance(record, Channel) and record.message_encoding == "cdr":
                schema = known.get(record.schema_id)
                if schema is not None:
                    types[record.topic] = schema.name
                    if schema.encoding == "ros2msg":
                        schemas[schema.name] = schema.data.decode(errors="replace")
            elif isinstance(record, Metadata):
                facts |= record.metadata if record.name.startswith("openpi_flash") else {}
    store = get_typestore(Stores.LATEST if not schemas else Stores.EMPTY)
    try:
        definitions: dict[str, Any] = {}
        for name, text in schemas.items():
            definitions |= get_types_from_msg(text, name)
        store.register(definitions)
    except TypesysError as error:
        raise DataError(path, f"has a message definition that cannot be read: {error}") from error
    notes: list[str] = []

    def messages(topics: frozenset[str]) -> Iterator[RawMessage]:
        for file in files:
            by_id: dict[int, str] = {}
            for record in _records(file, notes, all_records=True):
                if isinstance(record, Channel) and record.topic in topics:
                    by_id[record.id] = record.topic
                elif isinstance(record, Message) and record.channel_id in by_id:
                    topic = by_id[record.channel_id]
                    yield RawMessage(topic, record.log_time, bytes(record.data))

    return MessageFile(path, types, messages, store.deserialize_cdr, facts, notes)


def _records(file: Path, notes: list[str], *, all_records: bool) -> Iterator[Any]:
    """Records of an MCAP file up to where it is cut off.

    Args:
        file: of the records.
        notes: gets a line where the file is cut off.
        all_records: messages, too.
    """
    try:
        stream = file.open("rb")
    except OSError as error:
        raise DataError(file, f"cannot read: {error.strerror or error}") from error
    seen = 0
    with stream:
        try:
            for record in StreamReader(stream, record_size_limit=None).records:
                seen += 1
                if all_records or not isinstance(record, Message):
                    yield record
        except (McapError, EOFError, ValueError, OSError) as error:
            if not seen:
                raise DataError(file, f"is not an MCAP file: {error!r}") from error
            note = f"{file.name} is cut off ({type(error).__name__}): read up to there"
            if note not in notes:
                notes.append(note)


def times_of(messages: list[RawMessage]) -> np.ndarray:
    """When messages were recorded, int64 [N], ns."""
    return np.array([message.received for message in messages], np.int64)
