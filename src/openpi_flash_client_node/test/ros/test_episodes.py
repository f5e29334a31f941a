"""episodes.py in the real node, over real ROS: what a file holds, the services, what goes wrong."""

import io
import itertools
import shutil
from collections import defaultdict, namedtuple
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from flash_transport import decode_image
from openpi_flash_msgs.msg import PolicyStatus
from openpi_flash_msgs.srv import SetPrompt

make_reader = pytest.importorskip("mcap.reader").make_reader
decoders = pytest.importorskip("mcap_ros2.decoder")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "episodes"


@pytest.fixture
def make_recording(make_node, folder):
    def make(**changes):
        return make_node(**{"record_folder": str(folder)} | changes)

    return make


def until_whole(robot, path):
    """Wait for a file; its messages by topic, and its facts."""
    robot.ros.until(Path(path).exists, f"the file {path}")
    reader = make_reader(
        io.BytesIO(Path(path).read_bytes()),
        validate_crcs=True,
        decoder_factories=[decoders.DecoderFactory()],
    )
    topics, facts = defaultdict(list), {}
    for schema, channel, message, decoded in reader.iter_decoded_messages():
        topics[channel.topic].append((schema.name, message.log_time, decoded))
    for record in reader.iter_metadata():
        facts |= record.metadata
    return topics, facts


def record(robot, seconds=1.0):
    """Record an episode; the path of its file."""
    started = robot.call(Trigger, "record/start")
    assert started.success, started.message
    robot.ros.turn(seconds)
    stopped = robot.call(Trigger, "record/stop")
    assert stopped.success, stopped.message
    return Path(started.message)


def running(robot):
    robot.until_state(PolicyStatus.RUNNING)
    robot.until_new(robot.trajectories["arm"], "a trajectory")


def kinds(topics):
    return {topic: found[0][0] for topic, found in topics.items()}


def test_an_episode_holds_inputs_commands_chunks_and_who_acted(robot, folder, make_recording):
    robot.compress("wrist")
    make_recording(camera__wrist__topic="/wrist/image_raw/compressed")
    running(robot)
    path = record(robot)
    assert path.parent == folder
    topics, facts = until_whole(robot, path)
    assert kinds(topics) == {
        "/scene/image_raw/compressed": "sensor_msgs/msg/CompressedImage",
        "/wrist/image_raw/compressed": "sensor_msgs/msg/CompressedImage",
        "/joint_states": "sensor_msgs/msg/JointState",
        "/arm/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
        "/hand/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
        "/openpi/action_chunk": "openpi_flash_msgs/msg/ActionChunk",
        "/openpi/status": "openpi_flash_msgs/msg/PolicyStatus",
        "/openpi/prompt": "std_msgs/msg/String",
        "/openpi/intervention": "std_msgs/msg/Bool",
    }
    for camera in ("scene", "wrist"):
        images = topics[f"/{camera}/image_raw/compressed"]
        pixels = decode_image(bytes(images[0][2].data))
        assert pixels.shape == (48, 64, 3)
        assert pixels.mean() == pytest.approx(len(camera), abs=3)
    # drivers' stamps and names are kept as they came
    _, at, joints = topics["/joint_states"][-1]
    assert joints.name == robot.names
    stamp = joints.header.stamp.sec * 10**9 + joints.header.stamp.nanosec
    assert abs(at - stamp) < 5 * 10**9
    commanded = topics["/arm/joint_trajectory"][0][2]
    sent = [
        message
        for message in robot.trajectories["arm"]
        if message.header.stamp.nanosec == commanded.header.stamp.nanosec
    ]
    assert list(sent[0].points[-1].positions) == list(commanded.points[-1].positions)
    assert sent[0].joint_names == commanded.joint_names
    chunk = topics["/openpi/action_chunk"][0][2]
    assert len(chunk.values) == chunk.horizon * len(chunk.names)
    assert topics["/openpi/status"][0][2].state == PolicyStatus.RUNNING
    assert topics["/openpi/prompt"][0][2].data == "stack the cubes"
    assert not topics["/openpi/intervention"][0][2].data
    assert facts["node"] == "/openpi/client_node"
    assert facts["prompt"] == "stack the cubes"
    assert facts["result"] == "unknown"
    assert facts["dropped"] == "0"
    assert "action_horizon" in facts["server_metadata"]


def test_every_frame_of_a_camera_is_recorded_though_the_policy_needs_few(robot, make_recording):
    make_recording(record_jpeg_quality=0)
    running(robot)
    robot.call(SetBool, "pause", data=True)  # a paused robot asks for no observation
    topics, _ = until_whole(robot, record(robot, seconds=1.5))
    images = topics["/scene/image_raw"]
    assert images[0][0] == "sensor_msgs/msg/Image"
    assert len(images[0][2].data) == 48 * 64 * 3
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for _, _, m in images]
    joints = [m.header.stamp for _, _, m in topics["/joint_states"]]
    assert len(set(stamps)) == len(stamps)
    # the robot's cameras and joints speak at the same moments
    assert len(stamps) >= 0.6 * len(joints)


def test_services_mark_discard_and_refuse(robot, folder, make_recording):
    make_recording()
    running(robot)
    refused = robot.call(Trigger, "record/stop")
    assert (refused.success, refused.message) == (False, "there is no episode to stop")
    first = record(robot, seconds=0.2)
    marked = robot.call(SetBool, "record/mark", data=True)
    assert marked.message == f"{first.name}: success"
    robot.ros.until(
        lambda: first.exists() and until_whole(robot, first)[1].get("success") == "true",
        "the mark in the file",
    )
    assert until_whole(robot, first)[1]["result"] == "success"
    second = Path(robot.call(Trigger, "record/start").message)
    assert "is being recorded" in robot.call(Trigger, "record/start").message
    robot.call(SetBool, "record/mark", data=False)
    assert robot.call(Trigger, "record/discard").success
    third = record(robot, seconds=0.1)
    until_whole(robot, third)
    assert sorted(folder.iterdir()) == [first, third]
    assert second not in folder.iterdir()
    running(robot)


def test_a_takeover_and_a_new_prompt_are_in_the_file(robot, make_recording):
    switch = robot.node.create_publisher(Bool, "/pedal", 1)
    held = Bool(data=False)
    robot.node.create_timer(0.03, lambda: switch.publish(held))
    make_recording(
        takeover_topic="/pedal",
        teleop_topic="/leader/joint_states",
        teleop_joints=["l_shoulder", "l_elbow", "l_grip"],
    )
    running(robot)
    path = robot.call(Trigger, "record/start").message
    held.data = True
    robot.ros.until(lambda: robot.status.intervention, "the takeover")
    held.data = False
    robot.ros.until(lambda: not robot.status.intervention, "the robot given back")
    robot.call(SetPrompt, "set_prompt", prompt="put it down")
    robot.call(Trigger, "record/stop")
    topics, _ = until_whole(robot, path)
    flags = [message.data for _, _, message in topics["/openpi/intervention"]]
    assert [flag for flag, _ in itertools.groupby(flags)] == [False, True, False]
    prompts = [message.data for _, _, message in topics["/openpi/prompt"]]
    assert prompts == ["stack the cubes", "put it down"]


def test_a_node_that_ends_makes_its_episode_whole(robot, make_recording):
    node = make_recording()
    running(robot)
    path = robot.call(Trigger, "record/start").message
    robot.ros.turn(0.3)
    node.stop()
    topics, facts = until_whole(robot, path)
    assert facts["ended"] == "the recorder ended"
    # what brakes the robot at the end is a command, too
    assert not any(topics["/arm/joint_trajectory"][-1][2].points[-1].velocities)


def test_a_full_disk_is_in_the_diagnostics_and_the_robot_goes_on(
    robot, make_recording, monkeypatch
):
    reports = []
    robot.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: reports.extend(m.status), 10
    )
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1_000_000))
    make_recording(black_box_seconds=0.0)
    running(robot)

    def told():
        found = [r for r in reports if r.name == "/openpi/client_node: episodes"]
        return found[-1] if found and found[-1].level == b"\x02" else None

    assert "no room for episodes" in robot.ros.until(told, "an error of the episodes").message
    refused = robot.call(Trigger, "record/start")
    assert not refused.success
    assert "1 MB are free" in refused.message
    monkeypatch.undo()
    running(robot)
    assert robot.call(Trigger, "record/start").success
