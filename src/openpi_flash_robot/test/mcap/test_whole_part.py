"""whole_part.py: a file that is cut off anywhere is whole up to the last whole chunk."""

import io

import pytest

from openpi_flash_robot.mcap.whole_part import NotMcapError, whole_part
from openpi_flash_robot.mcap.writer import McapWriter, Schema

make_reader = pytest.importorskip("mcap.reader").make_reader
SCHEMA = Schema("std_msgs/msg/String", "ros2msg", b"string data\n")


def written(*, finish):
    """Ten chunks of three messages on two topics, and the lengths after each of them."""
    content = bytearray()
    writer = McapWriter(content.extend, library="a test", profile="ros2")
    writer.add_metadata("facts", {"a": "1"})
    channels = [writer.add_channel("/a", SCHEMA, "cdr")]
    ends = []
    for chunk in range(10):
        if chunk == 4:
            channels.append(writer.add_channel("/b", SCHEMA, "cdr"))
        for number in range(3):
            writer.add_message(channels[number % len(channels)], chunk * 3 + number, b"text")
        writer.end_chunk()
        ends.append(len(content))
    if finish:
        writer.finish()
    return bytes(content), ends


def ended(content):
    """The whole part with an end, as MCAP's library reads it."""
    part = whole_part(io.BytesIO(content))
    whole = content[: part.end] + part.summary.end(part.end)
    reader = make_reader(io.BytesIO(whole), validate_crcs=True)
    times = [message.log_time for _, _, message in reader.iter_messages()]
    statistics = reader.get_summary().statistics
    assert statistics.message_count == len(times)
    assert statistics.metadata_count == len(list(reader.iter_metadata())) == 1
    return times, whole


def test_a_whole_file_ends_as_it_did():
    content, _ = written(finish=True)
    times, whole = ended(content)
    assert times == list(range(30))
    assert whole == content


def test_wherever_it_is_cut_off_all_chunks_before_are_kept():
    content, ends = written(finish=False)
    for length in range(ends[3], len(content) + 1, 7):
        chunks = sum(end <= length for end in ends)
        assert ended(content[:length])[0] == list(range(3 * chunks)), length


def test_a_last_chunk_that_the_disk_never_had_is_left_out():
    content, ends = written(finish=False)
    for size in (8, 40, 100, ends[9] - ends[8] - 1):
        torn = content[: ends[9] - size] + bytes(size)
        assert ended(torn)[0] == list(range(27))
    assert ended(content + bytes(4096))[0] == list(range(30))


@pytest.mark.parametrize("content", [b"", b"\x89MC", b"something else"])
def test_another_file_is_refused(content):
    with pytest.raises(NotMcapError, match="does not begin as MCAP files do"):
        whole_part(io.BytesIO(content))
