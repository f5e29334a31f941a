"""writer_thread.py and folder.py with real files: whole, killed, full, discarded."""

import fcntl
import io
import os
import signal
import subprocess
import sys
from collections import namedtuple

import pytest

from openpi_flash_robot.episodes import folder as folder_module
from openpi_flash_robot.episodes import writer_thread
from openpi_flash_robot.episodes.definitions import BOOL, STRING
from openpi_flash_robot.episodes.entry import Entry
from openpi_flash_robot.episodes.folder import EpisodeError, EpisodeFolder
from openpi_flash_robot.episodes.ros_messages import flag_message, text_message
from openpi_flash_robot.episodes.writer_thread import Failed, Finished, Recovered, WriterThread

make_reader = pytest.importorskip("mcap.reader").make_reader
decoders = pytest.importorskip("mcap_ros2.decoder")
NAME = "openpi.client_node_2026-01-02T03-04-05-006Z.mcap"


def nobody(_):
    return None


def text(value, at=7):
    return Entry("/text", STRING, at, 100, text_message(value))


@pytest.fixture
def folder(tmp_path):
    return EpisodeFolder(str(tmp_path / "episodes"))


@pytest.fixture
def make_writer(folder):
    def make():
        writers.append(WriterThread(folder, nobody))
        return writers[-1]

    writers = []
    yield make
    for writer in writers:
        writer.close(10.0)


def closed(writer):
    """What has become of everything that was ordered."""
    assert writer.close(30.0)
    return writer.outcomes()


def read(path):
    """(topic, decoded message) and metadata of a whole file."""
    reader = make_reader(
        io.BytesIO(path.read_bytes()),
        validate_crcs=True,
        decoder_factories=[decoders.DecoderFactory()],
    )
    messages = [
        (channel.topic, message)
        for _, channel, _, message in reader.iter_decoded_messages(log_time_order=False)
    ]
    assert reader.get_summary().statistics.message_count == len(messages)
    assert reader.get_header().profile == "ros2"
    facts = {}
    for record in reader.iter_metadata():
        facts |= record.metadata
    return messages, facts


def names(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_an_episode_is_one_whole_file_with_messages_and_facts(folder, make_writer):
    writer = make_writer()
    writer.add(text("nobody records"))
    writer.begin(NAME, {"node": "/n"})
    writer.add(text("a"))
    writer.add(Entry("/flag", BOOL, 8, 100, lambda: flag_message(True)))
    writer.note("openpi_flash.server", {"model": "pi0"})
    writer.finish({"result": "success"})
    writer.add(text("nobody records"))
    (finished,) = closed(writer)
    assert finished == Finished(NAME, (folder.path / NAME).stat().st_size, {})
    messages, facts = read(folder.path / NAME)
    assert [(topic, message.data) for topic, message in messages] == [
        ("/text", "a"),
        ("/flag", True),
    ]
    assert facts == {"node": "/n", "model": "pi0", "result": "success", "dropped": "0"}
    assert names(folder) == [NAME]


def test_the_result_of_a_whole_file_can_be_changed_and_the_file_be_removed(folder, make_writer):
    writer = make_writer()
    writer.begin(NAME, {})
    writer.add(text("a"))
    writer.finish({"result": "unknown", "ended": "stopped"})
    writer.revise(NAME, {"result": "failure", "success": "false"})
    assert [type(outcome) for outcome in closed(writer)] == [Finished]
    messages, facts = read(folder.path / NAME)
    assert len(messages) == 1
    assert (facts["result"], facts["success"], facts["ended"]) == ("failure", "false", "stopped")
    writer = make_writer()
    writer.remove(NAME)
    writer.remove(NAME)
    (failed,) = closed(writer)
    assert not failed.ends
    assert "No such file" in failed.message
    assert names(folder) == []


def test_a_discarded_episode_leaves_nothing(folder, make_writer):
    writer = make_writer()
    writer.begin(NAME, {})
    writer.add(text("a"))
    writer.discard()
    assert closed(writer) == []
    assert names(folder) == []


def test_what_does_not_fit_into_the_queue_is_counted_and_named(folder, make_writer, monkeypatch):
    monkeypatch.setattr(writer_thread, "MAX_QUEUED_BYTES", 250)
    writer = make_writer()
    writer.begin(NAME, {})
    writer._bytes_in += 250  # as if the thread were behind
    for _ in range(3):
        writer.add(text("lost"))
    writer._bytes_in -= 250
    assert writer.dropped == 3
    writer.add(text("kept"))
    writer.finish({})
    (finished,) = closed(writer)
    assert finished.dropped == {"/text": 3}
    messages, facts = read(folder.path / NAME)
    assert [message.data for _, message in messages] == ["kept"]
    assert facts["dropped"] == "/text 3"


def test_messages_that_cannot_be_recorded_are_left_out_and_told_once(folder, make_writer):
    def broken():
        raise ValueError("no such encoding")

    writer = make_writer()
    writer.begin(NAME, {})
    for _ in range(2):
        writer.add(Entry("/camera", BOOL, 1, 100, broken))
        writer.add(Entry("/odd", "odd_msgs/msg/Odd", 1, 100, b""))
        writer.add(text("a"))
    writer.finish({})
    *told, finished = closed(writer)
    assert [outcome.message for outcome in told] == [
        "messages of /camera are not recorded: no such encoding",
        "messages of /odd are not recorded: the message definition of odd_msgs/msg/Odd is not "
        "known",
    ]
    assert not any(outcome.ends for outcome in told)
    assert finished.dropped == {"/camera": 2, "/odd": 2}
    assert len(read(folder.path / NAME)[0]) == 2


Usage = namedtuple("Usage", "total used free")


def test_a_disk_that_becomes_full_ends_the_episode_and_keeps_it(folder, make_writer, monkeypatch):
    writer = make_writer()
    writer.begin(NAME, {})
    writer.add(text("a"))

    def fill():
        monkeypatch.setattr(folder_module.shutil, "disk_usage", lambda _: Usage(1, 1, 1_000_000))
        folder.check()

    writer._queue.append(fill)
    writer.add(text("too late"))
    writer.finish({"result": "success"})
    (failed,) = closed(writer)
    assert (failed.name, failed.ends) == (NAME, True)
    assert "1 MB are free" in failed.message
    assert failed.message.endswith(f"{NAME} holds what came before")
    _, facts = read(folder.path / NAME)
    assert facts["ended"].startswith("by an error: no room for episodes")


def test_a_write_that_fails_in_the_middle_of_a_chunk_keeps_all_chunks_before(
    folder, make_writer, monkeypatch
):
    class Full(io.BufferedWriter):
        """A file on a disk with room for little."""

        def write(self, data):
            if self.tell() + len(data) > 200_000:
                super().write(data[: 200_000 - self.tell()])
                self.flush()
                raise OSError(28, "No space left on device")
            return super().write(data)

    create = folder.create
    monkeypatch.setattr(folder, "create", lambda name: Full(create(name).detach()))
    writer = make_writer()
    writer.begin(NAME, {})
    for number in range(100):
        writer.add(text("x" * 10_000, number))
    writer.finish({})
    (failed,) = closed(writer)
    assert "No space left on device" in failed.message
    messages, facts = read(folder.path / NAME)
    assert len(messages) > 10
    assert "No space left" in facts["ended"]


def test_a_folder_that_cannot_be_written_is_named_at_once(tmp_path, make_writer, folder):
    folder.path.write_text("in the way")
    (failed,) = closed(make_writer())
    assert f"cannot write episodes to {folder.path}: " in failed.message
    assert "set record_folder" in failed.message
    with pytest.raises(EpisodeError, match="cannot write episodes"):
        folder.check()


KILLED = """
import sys, time
from openpi_flash_robot.episodes.definitions import STRING
from openpi_flash_robot.episodes.entry import Entry
from openpi_flash_robot.episodes.folder import EpisodeFolder
from openpi_flash_robot.episodes.ros_messages import text_message
from openpi_flash_robot.episodes.writer_thread import WriterThread
folder = EpisodeFolder(sys.argv[1])
writer = WriterThread(folder, lambda kind: None)
writer.begin("whole.mcap", {})
writer.add(Entry("/text", STRING, 1, 100, text_message("whole")))
writer.finish({"result": "success"})
writer.begin(sys.argv[2], {"prompt": "stack"})
for number in range(1000):
    writer.add(Entry("/text", STRING, number, 100, text_message(str(number))))
partial = folder.path / (sys.argv[2] + ".partial")
while not partial.exists() or partial.stat().st_size < 1000 * 40:
    time.sleep(0.01)
print("all is in the file", flush=True)
for number in range(10**9):
    writer.add(Entry("/more", STRING, number, 10_000, text_message("y" * 10_000)))
    time.sleep(0.001)
"""


def test_a_process_that_is_killed_leaves_every_episode_readable(folder, make_writer):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder.path), NAME], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "all is in the file\n"
    assert closed(make_writer()) == []  # its file is in use
    assert names(folder) == [f"{NAME}.partial", "whole.mcap"]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert read(folder.path / "whole.mcap")[1]["result"] == "success"
    assert closed(make_writer()) == [Recovered(NAME)]
    messages, facts = read(folder.path / NAME)
    texts = [message.data for topic, message in messages if topic == "/text"]
    assert texts == [str(number) for number in range(1000)]
    assert facts == {"prompt": "stack", "ended": "the recorder was killed"}
    assert names(folder) == [NAME, "whole.mcap"]


def test_messages_reach_the_file_while_the_episode_goes_on(folder, make_writer):
    """The thread writes what has waited for half a second, though it is less than a chunk."""
    writer = make_writer()
    writer.begin(NAME, {})
    writer.add(text("a"))
    partial = folder.path / f"{NAME}.partial"
    descriptor = None
    for _ in range(10_000):
        if (
            partial.exists()
            and b"/text" in partial.read_bytes()
            and (text_message("a") in partial.read_bytes())
        ):
            descriptor = os.open(partial, os.O_RDONLY)
            break
        writer._closing.wait(0.01)
    assert descriptor is not None
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_an_unreadable_partial_file_is_named_and_an_empty_one_removed(folder, make_writer):
    folder.check()
    (folder.path / "odd.mcap.partial").write_text("something else entirely")
    (folder.path / "empty.mcap.partial").touch()
    (failed,) = closed(make_writer())
    assert isinstance(failed, Failed)
    assert "odd.mcap.partial cannot be made whole" in failed.message
    assert names(folder) == ["odd.mcap.partial"]
