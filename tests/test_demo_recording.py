"""The demo's MCAP file holds what was on the wire, with definitions that a stranger can read."""

from __future__ import annotations

import array
import os
from pathlib import Path

import numpy as np
import pytest

from demo.message_definitions import SEPARATOR, DefinitionNotFoundError, message_definition
from demo.recording import Recording

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

# rclpy imports a message's type support on first use, and that a parser that warns
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

PREFIXES = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if prefix]


def messages():
    """One of every type that the demo records, with contents that can be told apart."""
    from sensor_msgs.msg import Image, JointState
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    from openpi_flash_msgs.msg import ActionChunk, InferenceStats, PolicyStatus, Subtask

    image = Image(height=2, width=3, encoding="rgb8", step=9, data=array.array("B", range(18)))
    image.header.stamp.sec, image.header.frame_id = 12, "scene"
    states = JointState(name=["a", "b"], position=[0.5, -0.5], velocity=[1.0, 2.0])
    point = JointTrajectoryPoint(positions=[1.0, 2.0])
    point.time_from_start.nanosec = 40_000_000
    chunk = ActionChunk(sequence=7, horizon=2, names=["a", "b"], values=[1.0, 2.0, 3.0, 4.0])
    return {
        "/scene_camera/image_raw": image,
        "/joint_states": states,
        "/arm_controller/joint_trajectory": JointTrajectory(joint_names=["a", "b"], points=[point]),
        "/openpi/action_chunk": chunk,
        "/openpi/subtask": Subtask(text="reach for the red cube", sequence=3),
        "/openpi/status": PolicyStatus(state=PolicyStatus.RUNNING, transport="quic", message="ok"),
        "/openpi/stats": InferenceStats(total=0.0625, bytes_up=301_000),
    }


def type_name(message):
    package = type(message).__module__.split(".")[0]
    return f"{package}/msg/{type(message).__name__}"


@pytest.fixture
def recorded(tmp_path):
    from rclpy.serialization import serialize_message

    path = tmp_path / "recording.mcap"
    with Recording(path, PREFIXES) as recording:
        for topic, message in messages().items():
            recording.add_topic(topic, type_name(message))
        for round_number in range(3):
            for topic, message in messages().items():
                recording.write(topic, serialize_message(message), 1_000_000_000 + round_number)
    return path


def test_every_message_reads_back_as_it_was(recorded):
    originals = messages()
    seen = []
    with recorded.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for schema, channel, record, decoded in reader.iter_decoded_messages():
            assert schema.encoding == "ros2msg"
            assert channel.message_encoding == "cdr"
            original = originals[channel.topic]
            assert schema.name == type_name(original)
            for name in original.get_fields_and_field_types():
                assert as_plain(getattr(decoded, name)) == as_plain(getattr(original, name)), name
            seen.append((channel.topic, record.log_time, record.sequence))
    assert sorted(seen) == sorted(
        (topic, 1_000_000_000 + number, number + 1) for topic in originals for number in range(3)
    )


def as_plain(value):
    """Return a message of either library as lists, dictionaries and numbers."""
    if hasattr(value, "get_fields_and_field_types"):
        return {name: as_plain(getattr(value, name)) for name in value.get_fields_and_field_types()}
    if hasattr(value, "__slots__"):
        return {name.lstrip("_"): as_plain(getattr(value, name)) for name in value.__slots__}
    if isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    if isinstance(value, list | tuple | array.array | np.ndarray):
        return [as_plain(item) for item in value]
    return value


def test_the_file_says_that_it_is_ros_2_and_can_be_jumped_about_in(recorded):
    with recorded.open("rb") as file:
        reader = make_reader(file)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
    assert summary.statistics.message_count == 21
    assert len(summary.chunk_indexes) >= 1
    assert {channel.topic for channel in summary.channels.values()} == set(messages())


def test_a_definition_is_followed_by_all_that_it_is_made_of():
    text = message_definition("openpi_flash_msgs/msg/ActionChunk", PREFIXES)
    first, *others = text.split(f"{SEPARATOR}\n")
    assert "float64[] values" in first
    names = [part.splitlines()[0] for part in others]
    assert sorted(names) == [
        "MSG: builtin_interfaces/Duration",
        "MSG: builtin_interfaces/Time",
        "MSG: std_msgs/Header",
    ]


@pytest.fixture
def share(tmp_path):
    def add(package, name, text):
        folder = tmp_path / "share" / package / "msg"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.msg").write_text(text)

    add("alpha", "Top", "# Wrong wrong\nBeta b # a Comment c\nalpha/Beta[3] again\nHeader h\n")
    add("alpha", "Beta", "gamma/msg/Deep[<=4] deep\nstring<=5 s\nuint8 X=1\nint32[] n\n")
    add("gamma", "Deep", "float64 x 1.5\n")
    add("std_msgs", "Header", "string frame_id\n")
    return tmp_path


def test_types_are_found_however_they_are_written_and_once_each(share):
    text = message_definition("alpha/Top", [share])
    assert [line for line in text.splitlines() if line.startswith("MSG:")] == [
        "MSG: alpha/Beta",
        "MSG: std_msgs/Header",
        "MSG: gamma/Deep",
    ]


def test_a_type_that_is_not_installed_is_named(share):
    (share / "share" / "gamma" / "msg" / "Deep.msg").unlink()
    with pytest.raises(
        DefinitionNotFoundError, match=r"no definition of the message gamma/Deep \(looked in /"
    ):
        message_definition("alpha/Top", [share])
