"""mcap/writer.py and mcap_reader.py: what is written is read again, by MCAP's own library too."""

import io
import json

import numpy as np
import pytest

from openpi_flash_robot.black_box.mcap_reader import NotABlackBoxError, read_messages
from openpi_flash_robot.mcap.format import MAGIC
from openpi_flash_robot.mcap.writer import McapWriter, Schema

make_reader = pytest.importorskip("mcap.reader").make_reader
SCHEMA = {"type": "object", "properties": {"value": {"type": "number"}}}


def write(messages, schema="a.Schema"):
    """A file with messages of (topic, time, values)."""
    written = bytearray()
    writer = McapWriter(written.extend, library="a test")
    channels = {}
    described = Schema(schema, "jsonschema", json.dumps(SCHEMA).encode())
    for topic, log_ns, values in messages:
        if topic not in channels:
            channels[topic] = writer.add_channel(topic, described, "json", note="ä")
        writer.add_message(channels[topic], log_ns, json.dumps(values).encode())
    writer.finish()
    return bytes(written)


def many(count, rng=None):
    times = np.arange(count) if rng is None else rng.integers(0, 10**18, count)
    return [
        (f"/topic{index % 3}", int(time), {"value": index, "text": "x" * (index % 700)})
        for index, time in enumerate(times)
    ]


def by_library(content):
    reader = make_reader(io.BytesIO(content), validate_crcs=True)
    messages = [
        (channel.topic, message.log_time, json.loads(message.data))
        for _, channel, message in reader.iter_messages(log_time_order=False)
    ]
    return reader, messages


@pytest.mark.parametrize("count", [0, 1, 2_000])
def test_the_library_reads_every_message_with_checksums(count):
    messages = many(count)
    reader, read = by_library(write(messages))
    assert read == messages
    statistics = reader.get_summary().statistics
    assert statistics.message_count == count
    assert (statistics.message_start_time, statistics.message_end_time) == (0, max(0, count - 1))


def test_the_summary_names_channels_schemas_counts_and_times():
    content = write(many(2_000))
    summary = by_library(content)[0].get_summary()
    assert {channel.topic for channel in summary.channels.values()} == {
        "/topic0",
        "/topic1",
        "/topic2",
    }
    assert {channel.message_encoding for channel in summary.channels.values()} == {"json"}
    assert {channel.metadata["note"] for channel in summary.channels.values()} == {"ä"}
    (schema,) = summary.schemas.values()
    assert (schema.name, schema.encoding, json.loads(schema.data)) == (
        "a.Schema",
        "jsonschema",
        SCHEMA,
    )
    assert sorted(summary.statistics.channel_message_counts.values()) == [666, 667, 667]
    assert len(summary.chunk_indexes) == summary.statistics.chunk_count > 5


def test_messages_that_are_out_of_order_are_found_by_time(rng):
    messages = many(2_000, rng)
    reader, _ = by_library(write(messages))
    times = [message.log_time for _, _, message in reader.iter_messages("/topic1")]
    assert times == sorted(time for topic, time, _ in messages if topic == "/topic1")


def test_our_reader_reads_the_same():
    messages = many(2_000)
    read = [
        (found.topic, found.log_ns, json.loads(found.data))
        for found in read_messages(write(messages))
    ]
    assert read == messages


def test_of_a_file_that_ends_too_soon_what_is_whole_is_read(rng):
    messages = many(500)
    content = write(messages)
    counts = []
    for end in sorted(rng.integers(len(MAGIC), len(content), 40)):
        read = [found.log_ns for found in read_messages(content[:end])]
        assert read == [log_ns for _, log_ns, _ in messages[: len(read)]]
        counts.append(len(read))
    assert counts[-1] > counts[0]


@pytest.mark.parametrize("content", [b"", b"\x89MCA", b"\x89PNG\r\n\x1a\nand more"])
def test_what_is_no_mcap_file_is_refused(content):
    with pytest.raises(NotABlackBoxError, match="does not begin as MCAP"):
        list(read_messages(content))


def test_a_compressed_file_is_refused_with_what_undoes_it():
    from mcap.writer import CompressionType, Writer

    stream = io.BytesIO()
    writer = Writer(stream, compression=CompressionType.ZSTD)
    writer.start()
    channel = writer.register_channel("/topic", "json", 0)
    writer.add_message(channel, 1, b"{}", 1)
    writer.finish()
    with pytest.raises(NotABlackBoxError, match="compressed with zstd"):
        list(read_messages(stream.getvalue()))


def test_an_uncompressed_file_of_the_library_is_read_too():
    from mcap.writer import CompressionType, Writer

    for use_chunking in (True, False):
        stream = io.BytesIO()
        writer = Writer(stream, compression=CompressionType.NONE, use_chunking=use_chunking)
        writer.start()
        channel = writer.register_channel("/topic", "json", 0)
        writer.add_message(channel, 7, b'{"a": 1}', 7)
        writer.finish()
        assert list(read_messages(stream.getvalue())) == [("/topic", 7, b'{"a": 1}')]
