"""The recorder: what is in its files, and that neither a slow nor a full disk holds up a slot."""

import errno
import json
import threading
from types import SimpleNamespace

import mcap.reader
import numpy as np
import pytest
from served_slot import wait_until
from server_fakes import CLIENT, WAIT, make_work

from flash_transport import unpackb
from openpi_flash_server.recording import folder as folder_module
from openpi_flash_server.recording.folder import BLACK_BOXES, Folder
from openpi_flash_server.recording.mcap_file import McapFile
from openpi_flash_server.recording.reading import RecordingError, read_recording
from openpi_flash_server.recording.recorder import Kept, Recorder
from openpi_flash_server.slot.answer import ErrorCode, Failure, Reply
from openpi_flash_server.slot.events import Answered, Dropped, Received, Started, Timing
from openpi_flash_server.slot.scheduler import DropReason
from openpi_flash_server.slot.session import ShadowSession

NOON = 1_800_000_000_000_000_000
TIMING = Timing(queue_ms=1.0, decode_ms=2.0, infer_ms=3.0, batch_size=1)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def record(tmp_path):
    """`record(...)` is a recorder into tmp_path, with its clock and its listener."""
    recorders = []

    def start(*, file_bytes=10**9, max_bytes=10**9, kept=None, **options):
        clock = Clock()
        folder = Folder(
            tmp_path / "records",
            file_bytes=file_bytes,
            max_bytes=max_bytes,
            min_free_bytes=0,
            wall_clock_at_zero=NOON,
        )
        recorder = Recorder(folder, kept or Kept(True, 60.0, 10**8), clock=clock, **options)
        recorders.append(recorder)
        return SimpleNamespace(
            recorder=recorder,
            clock=clock,
            tell=recorder.listener("action"),
            files=lambda kind="requests": sorted((tmp_path / "records").glob(f"{kind}-*")),
        )

    yield start
    for recorder in recorders:
        assert recorder.close(WAIT)


def received(number, at=100.0, *, session="robot", size=2):
    work = make_work({"state": np.full(size, float(number))})
    return Received(at, number, session, (work,), CLIENT)


def answered(number, at=100.0, *, session="robot"):
    actions = np.full((3, 2), float(number))
    return Answered(at, number, session, Reply({"actions": actions, "server_timing": {}}), TIMING)


def failed(number, at=100.0):
    failure = Failure(ErrorCode.INTERNAL, "RuntimeError: the model exploded")
    return Answered(at, number, "robot", failure, None)


def written(started, count):
    wait_until(lambda: started.recorder.state.written == count)


def test_requests_and_answers_are_in_the_file_with_their_times(record):
    started = record()
    started.recorder.describe("action", {"model": "pi05", "checkpoint": {"digest": "sha256:1"}})
    for event in (
        received(1),
        Started(100.1, (1,), 1),
        answered(1, 100.25),
        received(2, 101.0),
        Dropped(102, 2, "robot", DropReason.SUPERSEDED, Failure(ErrorCode.SUPERSEDED, "newer")),
    ):
        started.tell(event)
    assert started.recorder.close(WAIT)
    (file,) = started.files()
    assert file.name.startswith("requests-20270115T080140Z-000001")
    recording = read_recording(file)
    assert recording.metadata["model"] == "pi05"
    assert not recording.is_cut
    first, second = recording.exchanges
    assert (first.request, first.session, first.log_time) == (1, "robot", NOON + 100 * 10**9)
    assert first.messages[0]["state"].tolist() == [1.0, 1.0]
    assert first.answer["result"]["actions"].tolist() == [[1.0, 1.0]] * 3
    assert first.answer["timing"]["queue_ms"] == 1.0
    assert second.answer["error"] == {"code": "superseded", "message": "newer"}


def test_the_librarys_own_reader_finds_what_was_written(record):
    started = record()
    started.tell(received(1))
    started.tell(answered(1))
    assert started.recorder.close(WAIT)
    with started.files()[0].open("rb") as file:
        reader = mcap.reader.make_reader(file, validate_crcs=True)
        topics = [channel.topic for _, channel, _ in reader.iter_messages()]
        assert topics == ["/openpi/action/request", "/openpi/action/answer"]
        (_, channel, message) = next(reader.iter_messages())
    assert channel.message_encoding == "msgpack"
    assert unpackb(message.data)["request"] == 1


def test_what_a_transport_adds_to_an_answer_later_is_not_recorded(record):
    started = record()
    event = answered(1)
    started.tell(received(1))
    started.tell(event)
    event.answer.result["server_timing"]["prev_total_ms"] = 5.0
    assert started.recorder.close(WAIT)
    (exchange,) = read_recording(started.files()[0]).exchanges
    assert exchange.answer["result"]["server_timing"] == {}


def test_copies_for_a_shadow_are_left_out(record):
    started = record()
    started.tell(received(1, session=ShadowSession("robot")))
    started.tell(answered(1, session=ShadowSession("robot")))
    started.tell(received(2))
    assert started.recorder.close(WAIT)
    assert started.recorder.state.written == 1


def test_files_rotate_and_the_oldest_are_deleted(record):
    rng = np.random.default_rng(0)
    started = record(file_bytes=2_500_000, max_bytes=10_000_000)
    for number in range(1, 31):
        # noise, which no compression makes smaller; larger than a chunk of the file
        work = make_work({"image": rng.integers(0, 256, 1_200_000, np.uint8)})
        started.tell(Received(100.0, number, "robot", (work,), CLIENT))
        written(started, number)
    assert started.recorder.close(WAIT)
    files = started.files()
    assert 2 <= len(files) <= 4
    assert sum(file.stat().st_size for file in files) <= 10_000_000 + 1_300_000
    numbers = [each.request for file in files for each in read_recording(file).exchanges]
    # the newest are there, without a gap
    assert numbers == list(range(31 - len(numbers), 31))


def test_an_error_writes_the_last_minute_and_nothing_older(record):
    started = record(kept=Kept(False, 60.0, 10**8))
    for number, at in ((1, 100.0), (2, 130.0), (3, 165.0)):
        started.tell(received(number, at))
        started.tell(answered(number, at))
    started.tell(received(4, 170.0))
    started.tell(failed(4, 170.5))
    wait_until(lambda: started.files("black-box"))
    # the same fault a moment later makes no second file
    started.tell(failed(5, 175.0))
    assert started.recorder.close(WAIT)
    (file,) = started.files("black-box")
    assert started.files() == []
    exchanges = read_recording(file).exchanges
    assert [exchange.request for exchange in exchanges] == [2, 3, 4]
    assert exchanges[-1].answer["error"]["message"] == "RuntimeError: the model exploded"
    with file.open("rb") as opened:
        (entry,) = mcap.reader.make_reader(opened).iter_metadata()
    assert entry.metadata["reason"] == "RuntimeError: the model exploded"


def test_an_error_of_a_client_writes_no_black_box(record):
    started = record(kept=Kept(False, 60.0, 10**8))
    started.tell(received(1))
    failure = Failure(ErrorCode.BAD_REQUEST, "state: missing")
    started.tell(Answered(100.0, 1, "robot", failure, None))
    assert started.recorder.close(WAIT)
    assert started.files("black-box") == []


def test_black_boxes_do_not_fill_the_disk(record):
    started = record(kept=Kept(False, 60.0, 10**8))
    for number in range(BLACK_BOXES + 3):
        at = 100.0 + 61 * number
        started.clock.now = at
        started.tell(received(number, at))
        started.tell(failed(number, at))
        wait_until(lambda: started.recorder._next_black_box > started.clock.now)
    assert started.recorder.close(WAIT)
    assert len(started.files("black-box")) == BLACK_BOXES


def test_a_slow_disk_holds_up_nobody_and_what_is_lost_is_counted(record, monkeypatch):
    gate, entered = threading.Event(), threading.Event()
    write = McapFile.write

    def slow(self, packed):
        entered.set()
        assert gate.wait(WAIT)
        write(self, packed)

    monkeypatch.setattr(McapFile, "write", slow)
    started = record(max_waiting_bytes=100_000)
    started.tell(received(1, size=1000))
    assert entered.wait(WAIT)
    for number in range(2, 31):
        started.tell(received(number, size=1000))
    lost = started.recorder.state.dropped
    assert 15 <= lost < 29
    gate.set()
    written(started, 30 - lost)
    # the line takes new ones again
    started.tell(received(31, size=1000))
    written(started, 31 - lost)


def test_a_full_disk_stops_the_recording_until_there_is_room_again(record, monkeypatch, caplog):
    write = McapFile.write
    is_full = threading.Event()

    def sometimes(self, packed):
        if is_full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, packed)

    monkeypatch.setattr(McapFile, "write", sometimes)
    started = record()
    started.tell(received(1))
    written(started, 1)
    is_full.set()
    for number in (2, 3):
        started.tell(received(number))
    wait_until(lambda: started.recorder.state.dropped == 2)
    assert caplog.text.count("RECORDING STOPPED") == 1
    assert "No space left on device" in started.recorder.state.stopped_because
    is_full.clear()
    started.clock.now += 30
    started.tell(received(4))
    wait_until(lambda: started.recorder.state.dropped == 3)
    started.clock.now += 31
    started.tell(received(5))
    written(started, 2)
    assert started.recorder.state.stopped_because is None
    assert started.recorder.close(WAIT)
    assert [each.request for each in read_recording(started.files()[-1]).exchanges] == [5]


def test_space_that_is_to_stay_free_is_left(record, tmp_path, monkeypatch):
    started = record()
    started.recorder._folder._min_free_bytes = 10**9
    usage = SimpleNamespace(free=10**9 - 1)
    monkeypatch.setattr(folder_module.shutil, "disk_usage", lambda path: usage)
    started.tell(received(1))
    wait_until(lambda: started.recorder.state.dropped == 1)
    assert started.files() == []


def test_a_record_that_cannot_be_packed_is_left_out_alone(record, caplog):
    started = record()
    work = make_work({"state": object()})
    started.tell(Received(100.0, 1, "robot", (work,), CLIENT))
    started.tell(received(2))
    written(started, 1)
    assert started.recorder.state.dropped == 1
    assert "record left out" in caplog.text


def test_a_file_of_a_server_that_was_killed_is_read_as_far_as_it_goes(record):
    rng = np.random.default_rng(0)
    started = record()
    for number in range(1, 6):
        work = make_work({"image": rng.integers(0, 256, 1_200_000, np.uint8)})
        started.tell(Received(100.0, number, "robot", (work,), CLIENT))
    written(started, 5)
    (file,) = started.files()
    data = file.read_bytes()
    for length in (len(data), len(data) - 1, 3_000_000):
        cut = file.with_name("cut.mcap")
        cut.write_bytes(data[:length])
        recording = read_recording(cut)
        assert recording.is_cut
        assert [each.request for each in recording.exchanges][:2] == [1, 2]


@pytest.mark.parametrize("data", [b"", b"\x89MCAP0\r", b"{}" * 50, json.dumps({}).encode()])
def test_a_file_that_is_no_recording_is_an_error(tmp_path, data):
    path = tmp_path / "x.mcap"
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=r"x\.mcap: not an MCAP file"):
        read_recording(path)
