"""black_box.py in the real node, over real ROS: what makes a file, and what never stops a robot."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from flash_transport import QuicServer, decode_image
from openpi_flash_client_node.ros import black_box
from openpi_flash_msgs.msg import PolicyStatus

make_reader = pytest.importorskip("mcap.reader").make_reader
KEY = "k3y-of-the-robot"
SECOND = 1_000_000_000


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "boxes"


@pytest.fixture
def make_recorded(make_node, folder):
    def make(**changes):
        return make_node(**{"black_box_folder": str(folder)} | changes)

    return make


def until_file(robot, folder, cause):
    """Wait for a file of this cause; its messages by topic, as (time, values)."""

    def found():
        return next(iter(folder.glob(f"openpi.client_node_*Z_{cause}.mcap")), None)

    return messages(robot.ros.until(found, f"a file of {cause} in {folder}"))


def messages(path):
    by_topic = {}
    reader = make_reader(io.BytesIO(path.read_bytes()), validate_crcs=True)
    count = 0
    for _, channel, message in reader.iter_messages(log_time_order=False):
        values = json.loads(message.data)
        by_topic.setdefault(channel.topic, []).append((message.log_time, values))
        count += 1
    assert reader.get_summary().statistics.message_count == count
    return by_topic


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def running(robot):
    robot.until_state(PolicyStatus.RUNNING)
    robot.until_new(robot.trajectories["arm"], "a trajectory")


def test_an_arm_that_does_not_follow_makes_one_file_with_what_came_before_and_after(
    robot, server, folder, make_recorded
):
    server.answer = lambda observation: {
        "actions": observation["observation/state"]
        + np.arange(1, 51)[:, np.newaxis] * 0.04 * [0.3, 0.0, 0.0]
    }
    make_recorded()  # the robot stays at 0.1, whatever it is told
    robot.until_state(PolicyStatus.HOLDING, "joint shoulder does not follow")
    found = until_file(robot, folder, "tracking")
    statuses = found["/status"]
    at = next(at for at, values in statuses if values["cause"] == "TRACKING")
    assert any(values["state"] == "RUNNING" for before, values in statuses if before < at)
    for topic in ("/joints", "/camera/scene", "/camera/wrist"):
        after = max(time for time, _ in found[topic]) - at
        assert after > 1.9 * SECOND, topic
    commanded = [values["positions"]["shoulder"] for _, values in found["/command/arm"]]
    measured = [values["positions"]["shoulder"] for _, values in found["/joints"]]
    assert max(commanded) > max(measured) + 0.05
    assert found["/answer"][0][1]["description"].endswith("[50, 3]")
    assert found["/chunk"][0][1]["sequence"] == 1
    assert found["/settings"][0][1]["prompt"] == "stack the cubes"
    robot.ros.turn(1.0)
    assert len(files(folder)) == 1


def test_an_emergency_stop_makes_a_file_with_the_button_and_the_frames(
    robot, folder, make_recorded
):
    button = robot.node.create_publisher(Bool, "/estop", 10)
    pressed = Bool(data=False)
    robot.node.create_timer(0.1, lambda: button.publish(pressed))
    make_recorded(emergency_stop_topics=["/estop"])
    running(robot)
    assert list(folder.glob("*.mcap")) == []  # that the button was not heard yet was no fault
    pressed.data = True
    robot.until_state(PolicyStatus.HOLDING, "emergency stop /estop is pressed")
    found = until_file(robot, folder, "emergency_stop")
    heard = [values["value"] for _, values in found["/stop_input"]]
    assert (heard[0], heard[-1]) == (False, True)
    frame = decode_image(base64.b64decode(found["/frame/wrist"][0][1]["data"]))
    assert frame.shape == (48, 64, 3)
    assert frame.mean() == pytest.approx(len("wrist"), abs=3)


def test_dump_answers_with_the_path_of_a_file_while_the_robot_goes_on(robot, folder, make_recorded):
    make_recorded()
    running(robot)
    answer = robot.call(Trigger, "dump")
    assert answer.success
    assert Path(answer.message).parent == folder
    found = until_file(robot, folder, "request")
    assert Path(answer.message).exists()
    assert found["/recording"][0][1]["cause"] == "request"
    assert found["/recording"][0][1]["node"] == "/openpi/client_node"
    running(robot)


def test_files_go_beside_ros_own_unless_a_parameter_says_otherwise(robot, make_node, ros_home):
    make_node()
    running(robot)
    robot.call(Trigger, "dump")
    until_file(robot, ros_home / "openpi_flash", "request")


def test_without_images_there_are_none(robot, folder, make_recorded):
    make_recorded(black_box_images=False)
    running(robot)
    robot.ros.turn(0.7)
    robot.call(Trigger, "dump")
    found = until_file(robot, folder, "request")
    assert "/camera/scene" in found
    assert "/frame/scene" not in found


def test_with_0_seconds_nothing_is_recorded(robot, folder, make_recorded):
    make_recorded(black_box_seconds=0.0)
    running(robot)
    dump = robot.node.create_client(Trigger, "/openpi/client_node/dump")
    robot.call(Trigger, "hold")  # the service of another name is found
    assert not dump.service_is_ready()
    assert not folder.exists()


def test_a_node_that_ends_right_after_a_fault_writes_its_file_first(
    robot, server, folder, make_recorded
):
    node = make_recorded()
    running(robot)
    server.answer = lambda observation: {"actions": np.full((50, 3), np.nan)}
    robot.until_state(PolicyStatus.HOLDING, "is not finite")
    node.stop()
    (name,) = files(folder)
    assert name.endswith("_bad_chunk.mcap")
    found = messages(folder / name)
    assert found["/status"][-1][1]["cause"] == "INACTIVE"
    assert found["/answer"][-1][1]["actions"][0] == [None, None, None]


def test_a_node_that_ends_without_a_fault_writes_none(robot, folder, make_recorded):
    node = make_recorded()
    running(robot)
    node.stop()
    assert files(folder) == []


def test_a_folder_that_cannot_be_written_is_a_warning_and_the_robot_goes_on(
    robot, server, tmp_path, make_recorded, capfd
):
    (tmp_path / "file").touch()
    make_recorded(black_box_folder=str(tmp_path / "file" / "boxes"))
    running(robot)
    warning = f"the black box cannot write to {tmp_path}/file/boxes: Not a directory"

    def warnings():
        log.append(capfd.readouterr().err)
        return "".join(log).count(warning)

    log = []
    robot.ros.until(lambda: warnings() == 1, "a warning at the start")
    robot.call(Trigger, "dump")
    robot.ros.until(lambda: warnings() == 2, "a warning for the file")
    running(robot)


def test_an_error_in_the_recorder_is_a_warning_and_the_robot_goes_on(
    robot, folder, make_recorded, monkeypatch, capfd
):
    make_recorded()
    running(robot)

    def broken(*arguments, **named):
        raise RuntimeError("odd")

    monkeypatch.setattr(black_box.Recorder, "effect", broken)
    count = len(robot.chunks)
    robot.ros.until(lambda: len(robot.chunks) > count + 1, "more chunks")
    running(robot)
    assert "the black box records no more until the next configure" in capfd.readouterr().err
    answer = robot.call(Trigger, "dump")
    assert not answer.success
    assert "see the log" in answer.message


@pytest.mark.parametrize("source", ["parameter", "file", "environment"])
def test_no_key_is_in_a_file(robot, folder, make_recorded, monkeypatch, source):
    path = folder.parent / "key"
    path.write_text(KEY)
    path.chmod(0o600)
    given = {"parameter": {"api_key": KEY}, "file": {"api_key_file": str(path)}}
    if source == "environment":
        monkeypatch.setenv("OPENPI_FLASH_API_KEY", KEY)
    with QuicServer("127.0.0.1", 0, metadata={}, api_keys=[KEY]) as server:
        make_recorded(port=server.port, **given.get(source, {}))
        robot.until_state(PolicyStatus.FAULT, "set the parameter action_rate_hz")
        found = until_file(robot, folder, "mismatch")
    assert found["/settings"][0][1]["link"]["api_key"] == "set"
    (name,) = files(folder)
    assert KEY.encode() not in (folder / name).read_bytes()


def test_configured_again_it_begins_anew(robot, folder, make_recorded):
    node = make_recorded()
    running(robot)
    node.trigger_deactivate()
    robot.until_state(PolicyStatus.PAUSED)
    node.trigger_cleanup()
    node.trigger_configure()
    node.trigger_activate()
    running(robot)
    robot.call(Trigger, "dump")
    found = until_file(robot, folder, "request")
    assert {values["connected"] for _, values in found["/server"]} == {True}
    assert [values["cause"] for _, values in found["/status"]].count("INACTIVE") <= 2
