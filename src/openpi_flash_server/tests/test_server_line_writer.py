"""A log whose reader is slow, stuck, gone or full: lines are lost and counted, nobody waits."""

import os
import threading

import pytest
from server_fakes import WAIT

from openpi_flash_server.logs.line_writer import LineWriter
from openpi_flash_server.logs.log_output import _FileLines


class Stuck:
    """Takes text when the test lets it; fails while `error` is set."""

    def __init__(self):
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.texts = []
        self.error = None

    def __call__(self, text):
        self.entered.release()
        assert self.gate.wait(WAIT)
        if self.error is not None:
            raise self.error
        self.texts.append(text)


def say(count, reason):
    return f"{count} lost: {reason}"


@pytest.fixture
def stuck():
    target = Stuck()
    yield target
    target.gate.set()


def test_lines_are_written_in_order(stuck):
    stuck.gate.set()
    writer = LineWriter(stuck, say)
    for number in range(100):
        writer.put(str(number))
    assert writer.flush(timeout=WAIT)
    assert "".join(stuck.texts) == "".join(f"{number}\n" for number in range(100))


def test_whoever_logs_does_not_wait_for_a_reader_and_lost_lines_are_told_where_they_were(stuck):
    writer = LineWriter(stuck, say, room=10)
    writer.put("running")
    assert stuck.entered.acquire(timeout=WAIT)
    for line in ("aaaaa", "bbbbb", "lost1", "lost2"):
        writer.put(line)
    assert not writer.flush(timeout=0)
    stuck.gate.set()
    assert writer.flush(timeout=WAIT)
    writer.put("after")
    assert writer.flush(timeout=WAIT)
    assert stuck.texts == [
        "running\n",
        "aaaaa\n",
        "bbbbb\n",
        "2 lost: lines came faster than they were read\nafter\n",
    ]


def test_a_line_longer_than_the_room_is_written_if_nothing_waits(stuck):
    stuck.gate.set()
    writer = LineWriter(stuck, say, room=3)
    writer.put("a long line")
    assert writer.flush(timeout=WAIT)
    assert stuck.texts == ["a long line\n"]


def test_lines_that_cannot_be_written_are_counted_and_told_with_the_reason(stuck):
    stuck.gate.set()
    stuck.error = OSError(28, "No space left on device")
    writer = LineWriter(stuck, say)
    for line in ("one", "two"):
        writer.put(line)
    assert writer.flush(timeout=WAIT)
    stuck.error = None
    writer.put("three")
    writer.put("four")
    assert writer.flush(timeout=WAIT)
    assert stuck.texts == ["2 lost: No space left on device\nthree\n", "four\n"]


def test_what_was_cut_off_by_a_full_disk_is_not_a_part_of_the_next_line(monkeypatch):
    disk = bytearray()
    room = [4]

    def write(file, data):
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken = data[: room[0]]
        disk.extend(taken)
        room[0] -= len(taken)
        return len(taken)

    monkeypatch.setattr(os, "write", write)
    lines = _FileLines(1)
    with pytest.raises(OSError, match="No space"):
        lines.write("first line\n")
    with pytest.raises(OSError, match="No space"):
        lines.write("second line\n")
    room[0] = 100
    lines.write("third line\n")
    lines.write("fourth line\n")
    assert disk.decode() == "firs\nthird line\nfourth line\n"
