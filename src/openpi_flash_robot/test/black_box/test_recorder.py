"""recorder.py and messages.py: what a file holds of what passed by."""

import base64
import gc
import io
import json
from array import array

import numpy as np
import pytest
from bridge_world import COST, JOINTS, METADATA, MS, moving
from recorded_world import NODE, RecordedWorld, written

from openpi_flash_robot.black_box.messages import message_of, to_json
from openpi_flash_robot.black_box.recorder import MAX_BYTES, MAX_NAME_LISTS, Recorder
from openpi_flash_robot.black_box.records import SmallFrame
from openpi_flash_robot.black_box.ring import Moment
from openpi_flash_robot.black_box.schemas import SCHEMAS
from openpi_flash_robot.bridge.effects import SendRequest, Warn
from openpi_flash_robot.link.events import (
    FailureKind,
    LinkDown,
    LinkUp,
    RequestDone,
    RequestFailure,
    ResetFailed,
)

make_reader = pytest.importorskip("mcap.reader").make_reader
SECOND = 1_000 * MS


@pytest.fixture
def world(settings):
    return RecordedWorld(settings)


def messages(recorder):
    """Every message by topic, as (time, values), read by MCAP's library."""
    found = {}
    reader = make_reader(io.BytesIO(written(recorder)), validate_crcs=True)
    for schema, channel, message in reader.iter_messages(log_time_order=False):
        assert schema.name in SCHEMAS
        values = json.loads(message.data, parse_constant=pytest.fail)
        found.setdefault(channel.topic, []).append((message.log_time, values))
    return found


def nanoseconds(time):
    return time["sec"] * SECOND + time["nsec"]


def test_a_run_is_in_it_from_the_cameras_to_the_commands(world):
    request = world.run()
    world.answer(world.pass_time(1_000, until=SendRequest), moving())
    world.pass_time(200)
    found = messages(world.recorder)
    assert set(found) == {
        *("/recording", "/settings", "/server", "/camera/scene", "/joints", "/status", "/request"),
        *("/answer", "/chunk", "/plan", "/command/arm", "/command/hand", "/stats"),
    }
    _, about = found["/recording"][0]
    assert (about["node"], about["cause"], about["joints"]) == (NODE, "request", list(JOINTS))
    at, first = found["/request"][0]
    assert first["request_id"] == request.request_id
    assert set(first["images"]) == {"scene", "wrist"}
    assert 0 < at - nanoseconds(first["images"]["scene"]) < 200 * MS
    assert first["prompt"] == "stack the cubes"
    _, answer = found["/answer"][1]
    np.testing.assert_allclose(answer["actions"], moving(), atol=1e-6)
    assert (answer["description"], answer["error"]) == ("float64 [50, 3]", "")
    assert (answer["total"], answer["bytes_up"]) == (0.04, COST.bytes_up)
    _, chunk = found["/chunk"][-1]
    np.testing.assert_allclose(chunk["actions"], moving(), atol=1e-6)
    states = [values["state"] for _, values in found["/status"]]
    assert states[0] != "RUNNING"
    assert states[-1] == "RUNNING"


def test_a_command_is_by_joint_what_the_controller_was_told_for_that_moment(world):
    world.run()
    world.answer(world.pass_time(1_000, until=SendRequest), moving())
    world.pass_time(400)
    at, command = messages(world.recorder)["/command/arm"][-1]
    assert (at, nanoseconds(command["start"])) == (world.now, world.now)
    here = world.controller.reference(world.now)
    assert command["positions"]["shoulder"] == pytest.approx(here.positions[0], abs=2e-6)
    assert command["velocities"]["shoulder"] == pytest.approx(here.velocities[0], abs=2e-6)
    assert command["velocities"]["shoulder"] > 0.1
    assert command["points"][0] == list(command["positions"].values())
    assert command["point_velocities"][-1] == [0.0, 0.0]
    assert command["times"][0] == 0.0
    assert len(command["times"]) == len(command["points"]) > 2


def test_it_reaches_back_as_far_as_its_parameter_says_and_says_what_held_before(world):
    world.run()
    for _ in range(70):
        world.pass_time(1_000)
    found = messages(world.recorder)
    everything = [at for entries in found.values() for at, _ in entries]
    assert max(everything) - min(everything) == pytest.approx(60 * SECOND, abs=0.1 * SECOND)
    # they came with the first connection, and are in the file all the same
    assert found["/settings"][0][1]["prompt"] == "stack the cubes"
    assert "action_names" in found["/server"][0][1]["message"]


def test_new_settings_are_in_it_beside_those_before(world, settings, replace):
    world.run()
    world.pass_time(1_000)
    world.recorder.settings(world.moment, replace(settings, execution_horizon=3))
    horizons = [v["execution_horizon"] for _, v in messages(world.recorder)["/settings"]]
    assert horizons == [10, 3]


@pytest.mark.parametrize("key", ["k3y-of-the-robot", ""])
def test_no_key_no_session_and_no_password_is_in_it(settings, replace, key):
    link = replace(
        settings.link,
        api_key=key,
        session="client_node-0badcafe",
        host="wss://robot:pa55word@gpu.lab/x",
        server="wss://robot:pa55word@gpu.lab/x",
    )
    at = Moment(0, 0)
    recorder = Recorder(NODE, replace(settings, link=link), at)
    recorder.link_event(at, LinkDown("cannot connect to wss://robot:pa55word@gpu.lab/x"))
    recorder.effect(at, Warn("proxy http://robot:pa55word@proxy"))
    content = written(recorder)
    for secret in (key, "0badcafe", "pa55word"):
        assert not secret or secret.encode() not in content
    assert json.dumps("set" if key else "not set").encode() in content
    assert b"wss://(hidden)@gpu.lab/x" in content


def test_a_chunk_that_is_not_finite_is_null_where_it_is_not(world):
    world.run()
    actions = moving()
    actions[3, 1], actions[4, 2] = np.nan, np.inf
    world.answer(world.pass_time(1_000, until=SendRequest), actions)
    _, answer = messages(world.recorder)["/answer"][-1]
    assert answer["actions"][3][1] is answer["actions"][4][2] is None
    assert answer["actions"][3][0] == pytest.approx(actions[3, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("result", "description"),
    [
        ({}, "NoneType"),
        ({"actions": "left"}, "str"),
        ({"actions": np.array(["left"])}, "<U4 [1]"),
        ({"actions": np.zeros((4096, 128))}, "float64 [4096, 128]"),
        ({"actions": np.zeros((0, 3), np.float32)}, "float32 [0, 3]"),
    ],
)
def test_an_answer_without_usable_actions_is_described(settings, result, description):
    recorder = Recorder(NODE, settings, Moment(0, 0))
    recorder.link_event(Moment(0, 0), RequestDone(1, result, 0.1, 0.2, COST))
    ((_, answer),) = messages(recorder)["/answer"]
    assert (answer["actions"], answer["description"]) == ([], description)


def test_failures_of_the_link_are_in_it_with_their_words(settings):
    recorder, at = Recorder(NODE, settings, Moment(0, 0)), Moment(0, 0)
    recorder.link_event(at, LinkUp(METADATA))
    recorder.link_event(at, RequestFailure(7, FailureKind.TIMEOUT, "no answer within 1 s"))
    recorder.link_event(at, LinkDown("x" * 100_000))
    recorder.link_event(at, ResetFailed("the bridge warns of it"))
    found = messages(recorder)
    assert found["/answer"][0][1] == {"request_id": 7, "error": "timeout: no answer within 1 s"}
    assert [values["connected"] for _, values in found["/server"]] == [True, False]
    assert len(found["/server"][1][1]["message"]) < 5_000


def test_a_frame_is_an_image_that_foxglove_shows_and_two_per_second_are_wanted(settings):
    recorder = Recorder(NODE, settings, Moment(0, 0))
    wanted = [
        recorder.camera(Moment(SECOND + tick, tick), camera, SECOND)
        for tick in range(0, 3 * SECOND, SECOND // 30)
        for camera in ("scene", "wrist")
    ]
    assert sum(wanted) == 2 * 6
    recorder.frame(Moment(SECOND, 3 * SECOND), SmallFrame("scene", 2 * SECOND + 5, b"\xff\xd8jpeg"))
    ((_, frame),) = messages(recorder)["/frame/scene"]
    assert frame["timestamp"] == {"sec": 2, "nsec": 5}
    assert base64.b64decode(frame["data"]) == b"\xff\xd8jpeg"
    assert frame["format"] == "jpeg"


def test_stop_inputs_and_warnings_are_in_it(settings):
    recorder = Recorder(NODE, settings, Moment(0, 0))
    recorder.stop_input(Moment(5, 5), "/estop", True)
    recorder.effect(Moment(SECOND, 6), Warn("the policy was not reset: busy"))
    found = messages(recorder)
    assert found["/stop_input"] == [(5, {"topic": "/estop", "value": True})]
    ((_, log),) = found["/log"]
    assert (log["level"], log["message"]) == (3, "the policy was not reset: busy")
    assert log["timestamp"] == {"sec": 1, "nsec": 0}


def test_joints_are_kept_by_name_as_many_as_a_driver_gives(settings):
    recorder = Recorder(NODE, settings, Moment(0, 0))
    recorder.joints(
        Moment(2 * SECOND, 0),
        SECOND,
        ["a", "b"],
        positions=array("d", [0.1234567, float("nan")]),
        velocities=(),
        efforts=[1.5],
    )
    ((_, joints),) = messages(recorder)["/joints"]
    assert joints == {
        "stamp": {"sec": 1, "nsec": 0},
        "age": 1.0,
        "positions": {"a": 0.123457, "b": None},
        "velocities": {},
        "efforts": {"a": 1.5},
    }


def test_a_message_that_the_driver_changes_later_is_recorded_as_it_was(settings):
    recorder = Recorder(NODE, settings, Moment(0, 0))
    positions = array("d", [0.5])
    recorder.joints(Moment(0, 0), 1, ["a"], positions=positions)
    positions[0] = 0.9
    assert messages(recorder)["/joints"][0][1]["positions"] == {"a": 0.5}


def test_joint_names_that_always_change_fill_no_memory(settings):
    recorder = Recorder(NODE, settings, Moment(0, 0))
    for index in range(10 * MAX_NAME_LISTS):
        recorder.joints(Moment(0, 0), 1, [f"joint {index}"], positions=[0.0])
    assert len(recorder._names) <= MAX_NAME_LISTS


def test_an_hour_of_everything_takes_no_more_memory_than_its_cap(settings):
    recorder = Recorder(NODE, settings, Moment(0, 0))
    frame = bytes(200_000)
    for tick in range(0, 3_600):
        at = Moment(tick * SECOND, tick * SECOND)
        for camera in range(10):
            recorder.frame(at, SmallFrame(f"{camera}", at.ros_ns, frame))
        assert recorder.bytes <= MAX_BYTES
    assert recorder.bytes > MAX_BYTES / 2
    about = messages(recorder)["/recording"][0][1]
    assert about["dropped"] > 0


def test_the_garbage_collector_tracks_few_of_its_objects(settings):
    recorder = Recorder(NODE, settings, Moment(0, 0))
    gc.collect()
    before = len(gc.get_objects())
    for tick in range(2_000):
        at = Moment(tick, tick)
        values = array("d", [0.0] * 7)
        recorder.joints(at, tick, list(JOINTS), positions=values, velocities=values)
    gc.collect()
    assert len(gc.get_objects()) - before < 2 * 2_000 + 500


def test_a_file_of_a_simulator_whose_time_has_not_begun_is_valid(settings):
    recorder = Recorder(NODE, settings, Moment(0, 0))
    recorder.camera(Moment(-5, 0), "scene", -3)
    ((at, image),) = messages(recorder)["/camera/scene"]
    assert (at, image["stamp"]) == (0, {"sec": 0, "nsec": 0})


def test_every_field_of_every_message_has_the_type_that_its_schema_says(world):
    world.run()
    world.answer(world.pass_time(1_000, until=SendRequest), moving())
    python_types = {
        "number": (int, float, type(None)),
        "integer": int,
        "string": str,
        "boolean": bool,
        "object": dict,
        "array": (list, tuple),
    }
    checked = set()
    for ros_ns, _, _, record in world.recorder.recording("x").entries:
        message = message_of(record, ros_ns, JOINTS)
        properties = SCHEMAS[message.schema]["properties"]
        for name, value in json.loads(to_json(message.values)).items():
            if name in properties:
                kind = properties[name]["type"]
                assert isinstance(value, python_types[kind]), (message.topic, name)
                checked.add(message.schema)
    assert len(checked) >= 8
