"""folder.py and file_writer.py: real files, disks that fail, and processes that are killed."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from datetime import datetime, timezone
from pathlib import Path

import pytest

from openpi_flash_robot.black_box import file_writer
from openpi_flash_robot.black_box.file_writer import FileWriter, NotWritten, Written
from openpi_flash_robot.black_box.folder import BlackBoxError, Folder, default_folder, file_name
from openpi_flash_robot.black_box.mcap_reader import read_messages
from openpi_flash_robot.black_box.recorder import Recorder
from openpi_flash_robot.black_box.ring import Moment

make_reader = pytest.importorskip("mcap.reader").make_reader
NODE = "/openpi/client_node"
AT = datetime(2026, 8, 11, 14, 3, 22, tzinfo=timezone.utc)
NAME = "openpi.client_node_2026-08-11T14-03-22Z_tracking.mcap"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def recording(settings):
    recorder = Recorder(NODE, settings, Moment(0, 0))
    for index in range(5_000):
        recorder.stop_input(Moment(index, index), "/estop", False)
    return recorder.recording("tracking")


@pytest.fixture
def made(tmp_path):
    return Folder(str(tmp_path / "a" / "b"), NODE, 3)


def names(made):
    return sorted(path.name for path in made.path.iterdir())


def test_a_name_has_node_time_and_cause():
    assert file_name(NODE, AT, "tracking") == NAME


@pytest.mark.parametrize(
    ("environment", "path"),
    [({}, "~/.ros/openpi_flash"), ({"ROS_HOME": "/data/ros"}, "/data/ros/openpi_flash")],
)
def test_files_go_where_ros_keeps_its_own(environment, path):
    assert default_folder(environment) == path


def test_the_home_of_the_user_is_filled_in(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Folder("~/boxes", NODE, 1).path == tmp_path / "boxes"


def test_the_newest_files_of_this_node_are_kept_and_other_files_left_alone(made):
    made.check()
    others = {
        "notes.txt",
        "client_node_2020-01-01T00-00-00Z_tracking.mcap",
        f"copy of {NAME}",
        NAME.replace(".mcap", ".mcap.gz"),
    }
    for name in others:
        (made.path / name).touch()
    for second in range(6):
        with made.new_file(file_name(NODE, AT.replace(second=second), "tracking")) as file:
            file.write(b"x")
    ours = [file_name(NODE, AT.replace(second=second), "tracking") for second in (3, 4, 5)]
    assert set(names(made)) == others | set(ours)


def test_a_file_has_its_name_only_when_it_is_whole(made):
    with made.new_file(NAME) as file:
        file.write(b"half")
        assert names(made) == [f"{NAME}.part"]
    assert names(made) == [NAME]


def test_a_file_that_fails_leaves_nothing_behind(made):
    def fill_the_disk():
        with made.new_file(NAME) as file:
            file.write(b"half")
            raise OSError(28, os.strerror(28))

    with pytest.raises(BlackBoxError, match="No space left"):
        fill_the_disk()
    assert names(made) == []


def test_what_a_killed_process_has_left_counts_as_a_file(made):
    made.check()
    old = [f"{file_name(NODE, AT.replace(second=second), 'tracking')}.part" for second in (0, 1)]
    for name in (*old, "somebody_else.mcap.part"):
        (made.path / name).touch()
    for second in (2, 3):
        with made.new_file(file_name(NODE, AT.replace(second=second), "request")) as file:
            file.write(b"x")
    new = [file_name(NODE, AT.replace(second=second), "request") for second in (2, 3)]
    assert names(made) == [old[1], *new, "somebody_else.mcap.part"]


def test_a_full_disk_is_left_alone(made, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 199_000_000))
    with pytest.raises(BlackBoxError, match=r"199 MB are free there, it leaves 200 MB alone"):
        made.check()
    with pytest.raises(BlackBoxError, match="make room"), made.new_file(NAME):
        pytest.fail("there is no room")
    assert names(made) == []


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BlackBoxError, match=r"cannot write to .*file/box: .*set black_box_folder"):
        Folder(str(tmp_path / "file" / "box"), NODE, 1).check()


# --- the thread ---


def until_result(writer):
    for _ in range(2_000):
        if results := writer.results():
            return results
        threading.Event().wait(0.01)
    return pytest.fail("no result")


def test_the_thread_writes_a_file_that_the_library_reads(made, recording):
    writer = FileWriter(made)
    path = writer.write(NAME, recording)
    assert path == str(made.path / NAME)
    assert until_result(writer) == [Written(path, Path(path).stat().st_size)]
    with Path(path).open("rb") as file:
        summary = make_reader(file, validate_crcs=True).get_summary()
    assert summary.statistics.message_count == 5_000 + 2
    assert writer.close(10.0)


def test_a_second_recording_is_refused_while_one_is_written_and_taken_after(made, recording):
    writer = FileWriter(made)
    assert writer.write(NAME, recording) is not None
    assert not writer.is_free
    assert writer.write("second.mcap", recording) is None
    until_result(writer)
    while not writer.is_free:
        threading.Event().wait(0.001)
    assert writer.write("second.mcap", recording) is not None
    assert writer.close(10.0)
    assert names(made) == [NAME, "second.mcap"]


def test_closing_finishes_the_file_that_is_under_way_without_pauses(made, recording, monkeypatch):
    monkeypatch.setattr(file_writer, "PAUSE_S", 0.05)
    monkeypatch.setattr(file_writer, "SLICE_S", 0.0)  # so that it would take minutes
    writer = FileWriter(made)
    writer.write(NAME, recording)
    assert writer.close(30.0)
    assert names(made) == [NAME]


def test_a_folder_that_cannot_be_written_is_said_at_once_and_for_every_file(tmp_path, recording):
    (tmp_path / "file").touch()
    writer = FileWriter(Folder(str(tmp_path / "file" / "box"), NODE, 1))
    (first,) = until_result(writer)
    assert isinstance(first, NotWritten)
    assert not first.is_lost
    writer.write(NAME, recording)
    (second,) = until_result(writer)
    assert second.is_lost
    assert writer.close(10.0)


def test_a_disk_that_fills_up_meanwhile_is_a_lost_file_and_no_end(made, recording, monkeypatch):
    monkeypatch.setattr(file_writer, "SPACE_CHECK_BYTES", 10_000)
    free = iter([10**9, 10**9, 10**9])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, next(free, 100_000_000)))
    writer = FileWriter(made)
    writer.write(NAME, recording)
    (result,) = until_result(writer)
    assert isinstance(result, NotWritten)
    assert "100 MB are free" in result.message
    assert writer.close(10.0)
    assert names(made) == []


def test_an_unexpected_error_is_a_lost_file_and_no_end(made, recording, monkeypatch):
    def broken(recording, write):
        raise RuntimeError("odd")

    monkeypatch.setattr(file_writer, "write_recording", broken)
    writer = FileWriter(made)
    writer.write(NAME, recording)
    (result,) = until_result(writer)
    assert "odd" in result.message
    assert writer.close(10.0)
    assert names(made) == []


KILLED = """
import sys
from pathlib import Path
from openpi_flash_robot.black_box.folder import Folder
from openpi_flash_robot.mcap.writer import McapWriter, Schema
made = Folder(sys.argv[1], "/openpi/client_node", 3)
with made.new_file(sys.argv[2]) as file:
    writer = McapWriter(file.write, library="a test")
    channel = writer.add_channel("/topic", Schema("a.Schema", "jsonschema", b"{}"), "json")
    for index in range(10**9):
        writer.add_message(channel, index, b"{}")
        if index == 10_000:
            print("writing", flush=True)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_no_file_of_that_name(made):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(made.path), NAME], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert names(made) == [f"{NAME}.part"]
    left = list(read_messages((made.path / f"{NAME}.part").read_bytes()))
    assert len(left) > 5_000  # and what was written of it can be read
