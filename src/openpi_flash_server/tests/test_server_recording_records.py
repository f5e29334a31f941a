"""What a record holds, what is kept of it, and how two answers compare."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_fakes import CLIENT

from flash_transport import packb, unpackb
from openpi_flash_server.recording.comparison import (
    ComparisonTally,
    Verdict,
    compare_answers,
)
from openpi_flash_server.recording.folder import OldFile, to_delete
from openpi_flash_server.recording.records import (
    message_of,
    parse_topic,
    request_record,
    size_of,
)
from openpi_flash_server.recording.ring import PackedRecord, Ring
from openpi_flash_server.slot.events import Received
from openpi_flash_server.slot.session import PlanSession
from openpi_flash_server.slot.work import parse_message, with_seed

MESSAGE = {
    "state": np.arange(3.0),
    "image": {"__image__": "jpeg", "data": b"\xff\xd8"},
    "prompt": "fold",
    "mode": "action_only",
    "seed": 7,
    "noise": np.ones((2, 3)),
    "num_steps": 4,
    "rtc": {
        "previous_actions": np.zeros((2, 3)),
        "delay": 1,
        "execution_horizon": 2,
        "method": "prefix",
    },
    "observation_stamp": 123,
    "session": "left arm",
    "request_class": "evaluation",
    "deadline_ms": 40.0,
    "expected_artifact": "sha256:" + "a" * 64,
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


def same(one, other):
    return packb(one) == packb(other)


@given(st.sets(st.sampled_from(sorted(MESSAGE))))
def test_a_recorded_request_asks_for_the_same_work_again(keys):
    message = {key: MESSAGE[key] for key in keys}
    again = message_of(parse_message(message, session="connection 1"))
    whole = {"session": "connection 1", "request_class": "robot", **message}
    assert sorted(again) == sorted(whole)
    for key, value in whole.items():
        assert same(again[key], value), key


def test_a_record_can_be_packed_and_says_who_asked():
    work = parse_message({"state": np.zeros(2)}, session="robot")
    record = request_record("action", Received(1.5, 3, "robot", (work,), CLIENT))
    value = unpackb(packb(record.value))
    assert (record.topic, record.at, record.sequence) == ("/openpi/action/request", 1.5, 3)
    assert (value["session"], value["client"]) == ("robot", CLIENT.name)
    assert same(value["messages"][0]["state"], np.zeros(2))
    own = request_record("planner", Received(1, 1, PlanSession("robot", 0, True), (), CLIENT))
    assert own.value["session"] == "action slot for robot"


def test_topics_of_others_are_none_of_ours():
    assert parse_topic("/openpi/action/answer") == ("action", "answer")
    assert [parse_topic(topic) for topic in ("/tf", "/x/action/answer", "openpi/a/b", "")] == [
        None
    ] * 4


def test_a_seed_is_given_where_the_request_chose_no_noise():
    assert with_seed(parse_message({}, session="a"), 5).controls.seed == 5
    assert with_seed(parse_message({"seed": 7}, session="a"), 5).controls.seed == 7
    assert with_seed(parse_message({"noise": np.ones(2)}, session="a"), 5).controls.seed is None


def test_the_size_of_a_value_is_about_that_of_its_arrays():
    size = size_of({"a": np.zeros((100, 100)), "b": [b"x" * 5000, "é" * 10, None, 1]})
    assert 85_000 < size < 87_000


def records(ring):
    return [record.sequence for record in ring.take()]


def test_a_ring_forgets_what_is_old_and_what_is_too_much():
    ring = Ring(seconds=10, max_bytes=100)
    for second in range(21):
        ring.add(PackedRecord("/t", float(second), second, b"x"))
    assert records(ring) == list(range(10, 21))
    assert records(ring) == []
    for number in range(5):
        ring.add(PackedRecord("/t", 0.0, number, b"x" * 30))
    assert records(ring) == [2, 3, 4]
    # one that is larger than the ring is not kept at all
    ring.add(PackedRecord("/t", 0.0, 1, b"x" * 101))
    assert records(ring) == []


def test_the_oldest_files_make_room(tmp_path):
    files = [OldFile(tmp_path / name, 10) for name in "abc"]
    assert to_delete(files, limit=30) == []
    assert to_delete(files, limit=25) == files[:1]
    assert to_delete(files, limit=0) == files
    assert to_delete(files, limit=-5) == files


ACTIONS = np.arange(6.0).reshape(3, 2)


def changed(row, column, by, dtype=None):
    actions = ACTIONS.astype(dtype or ACTIONS.dtype).copy()
    actions[row, column] += by
    return {"result": {"actions": actions}}


@pytest.mark.parametrize(
    ("expected", "actual", "tolerance", "verdict", "reason"),
    [
        (changed(0, 0, 0), changed(0, 0, 0), 0, "equal", ""),
        (changed(0, 0, 0), changed(2, 1, 1e-9), 0, "different", "actions[2, 1] differ by 1e-09"),
        (changed(0, 0, 0), changed(2, 1, 1e-9), 1e-8, "close", ""),
        (changed(0, 0, 0), changed(1, 0, np.nan), 1e9, "different", "actions[1, 0] differ by nan"),
        (changed(1, 0, np.nan), changed(1, 0, np.nan), 0, "equal", ""),
        (
            changed(0, 0, 0),
            {"result": {"actions": ACTIONS[:2]}},
            0,
            "different",
            "actions [3, 2] became [2, 2]",
        ),
        (changed(0, 0, 0), {"result": {}}, 0, "different", "the second answer has no actions"),
        (
            changed(0, 0, 0),
            {"error": {"code": "internal"}},
            0,
            "different",
            "an answer became internal",
        ),
        ({"error": {"code": "internal"}}, {"error": {"code": "internal"}}, 0, "equal", ""),
        (
            {"result": {"subtask": {"text": "pick", "ms": 3}}},
            {"result": {"subtask": {"text": "place", "ms": 4}}},
            0,
            "different",
            "subtask 'pick' became 'place'",
        ),
        (
            {"result": {"subtask": {"text": "pick", "ms": 3}}},
            {"result": {"subtask": {"text": "pick", "ms": 4}}},
            0,
            "equal",
            "",
        ),
    ],
)
def test_answers_compare(expected, actual, tolerance, verdict, reason):
    comparison = compare_answers(expected, actual, tolerance=tolerance)
    assert (comparison.verdict, comparison.reason) == (verdict, reason)


def test_a_tally_keeps_the_largest_difference_of_each_number_of_an_action():
    tally = ComparisonTally()
    for actual in (changed(0, 0, 0.5), changed(1, 1, -2), changed(2, 0, 0.25), changed(0, 0, 0)):
        tally.add(compare_answers(changed(0, 0, 0), actual))
    assert tally.verdicts == {Verdict.EQUAL: 1, Verdict.DIFFERENT: 3}
    assert tally.columns.tolist() == [0.5, 2.0]
    assert (tally.count, tally.largest) == (4, 2.0)
