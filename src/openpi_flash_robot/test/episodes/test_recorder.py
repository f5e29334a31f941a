"""recorder.py: what orders do in each state, by histories of what the files are told."""

import pytest

from openpi_flash_robot.episodes.entry import Entry
from openpi_flash_robot.episodes.facts import RESULT, SERVER, Result
from openpi_flash_robot.episodes.recorder import EpisodeRecorder

SECOND = 1_000_000_000
ENTRY = Entry("/topic", "std_msgs/msg/Bool", 7, 100, b"")


class Files:
    def __init__(self):
        self.told = []

    def __getattr__(self, what):
        return lambda *arguments: self.told.append((what, *arguments))

    @property
    def words(self):
        return [what for what, *_ in self.told]


@pytest.fixture
def files():
    return Files()


@pytest.fixture
def recorder(files):
    return EpisodeRecorder(files)


def test_an_episode_begins_with_what_stands_and_ends_with_its_result(recorder, files):
    assert not recorder.is_recording
    recorder.add([ENTRY])
    assert recorder.start(0, "a.mcap", {"node": "/n"}, [ENTRY]) == (True, "a.mcap")
    assert recorder.is_recording
    recorder.add([ENTRY, ENTRY])
    assert recorder.stop(2 * SECOND) == (True, "a.mcap: 2.0 s, unknown")
    recorder.add([ENTRY])
    assert files.words == ["begin", "add", "add", "add", "finish"]
    assert files.told[-1][1] == {"result": "unknown", "ended": "stopped", "seconds": "2.000"}


def test_only_one_episode_at_a_time(recorder, files):
    recorder.start(0, "a.mcap", {}, [])
    answer = recorder.start(1, "b.mcap", {}, [])
    assert answer == (False, "a.mcap is being recorded; stop or discard it first")
    assert files.words == ["begin"]


@pytest.mark.parametrize("order", ["stop", "discard", "mark"])
def test_without_an_episode_there_is_nothing_to_order(recorder, files, order):
    arguments = {"stop": (0,), "discard": (), "mark": (Result.SUCCESS,)}[order]
    assert getattr(recorder, order)(*arguments) == (False, f"there is no episode to {order}")
    assert files.told == []


def test_a_mark_counts_while_the_episode_runs_and_after_it(recorder, files):
    recorder.start(0, "a.mcap", {}, [])
    assert recorder.mark(Result.FAILURE) == (True, "a.mcap: failure")
    assert files.told[-1] == ("note", RESULT, {"result": "failure", "success": "false"})
    recorder.stop(SECOND)
    assert files.told[-1][1]["success"] == "false"
    recorder.mark(Result.SUCCESS)
    assert files.told[-1] == ("revise", "a.mcap", {"result": "success", "success": "true"})
    recorder.start(SECOND, "b.mcap", {}, [])
    assert recorder.mark(Result.SUCCESS).message == "b.mcap: success"


def test_discard_removes_the_running_episode_or_the_one_before_but_each_once(recorder, files):
    recorder.start(0, "a.mcap", {}, [])
    recorder.stop(1)
    recorder.start(1, "b.mcap", {}, [])
    assert recorder.discard() == (True, "b.mcap is removed")
    assert not recorder.discard().success
    recorder.start(2, "c.mcap", {}, [])
    recorder.stop(3)
    recorder.discard()
    assert not recorder.discard().success
    assert files.words == [
        *("begin", "finish", "begin", "discard", "begin", "finish"),
        "remove",
    ]
    assert files.told[-1] == ("remove", "c.mcap")


def test_the_server_is_named_in_each_episode_and_when_it_changes(recorder, files):
    recorder.server({"model": "pi0"})
    recorder.start(0, "a.mcap", {}, [])
    recorder.server({"model": "pi05"})
    assert files.told[1:] == [
        ("note", SERVER, {"model": "pi0"}),
        ("note", SERVER, {"model": "pi05"}),
    ]


def test_a_file_that_fails_ends_the_episode_and_says_why_until_the_next_start(recorder, files):
    recorder.start(0, "a.mcap", {}, [])
    recorder.failed("a.mcap", "the disk is full")
    assert not recorder.is_recording
    recorder.add([ENTRY])
    assert recorder.stop(1) == (False, "there is no episode to stop: the disk is full")
    assert recorder.start(2, "b.mcap", {}, []).success
    assert recorder.problem == ""
    recorder.failed("a.mcap", "told late")
    assert recorder.is_recording
    assert files.words == ["begin", "begin"]
