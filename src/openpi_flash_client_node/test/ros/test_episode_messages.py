"""episodes/: rclpy reads the messages as it would have made them; definitions are the installed."""

import re

import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Bool, Float64MultiArray, String

from openpi_flash_client_node.ros import messages
from openpi_flash_client_node.ros.episodes import installed_definition
from openpi_flash_msgs.msg import ActionChunk, PolicyStatus, Subtask
from openpi_flash_robot.bridge.chunk_description import ChunkDescription
from openpi_flash_robot.bridge.effects import PublishChunk, PublishSubtask
from openpi_flash_robot.bridge.instruction import Instruction
from openpi_flash_robot.bridge.status import Cause, Condition, State, Status
from openpi_flash_robot.episodes import ros_messages
from openpi_flash_robot.episodes.definitions import DEFINITIONS, UnknownTypeError, schema_of

CHUNK = PublishChunk(
    start_ns=1_700_000_000_123_456_789,
    observation_ns=-5,
    step_ns=20_000_000,
    sequence=7,
    first_step=2,
    actions=np.arange(6.0).reshape(2, 3),
    instruction=Instruction("stack", 3, 4),
    description=ChunkDescription(
        ("a", "bb", "ccc"),
        ("position",) * 3,
        ("rad", "", "1"),
        ("absolute",) * 3,
        "pi05",
        "weights",
    ),
)
SUBTASK = PublishSubtask(3_000_000_001, "grasp", "stack", 5, 0.25, "late")
STATUS = Status(
    Condition(State.HOLDING, Cause.LATE, "an answer is late", resumes_by_itself=False),
    Instruction("stäck", 2, 3),
    *("pi0", "weights", 9, 0.5, 12, 0.125, 0.0625, True, 1.5),
)


def test_rclpy_reads_what_it_would_have_made_itself(settings):
    made = {
        ActionChunk: (ros_messages.chunk_message(CHUNK), messages.chunk_message(CHUNK)),
        Subtask: (ros_messages.subtask_message(SUBTASK), messages.subtask_message(SUBTASK)),
        PolicyStatus: (
            ros_messages.status_message(STATUS, settings, 11),
            messages.status_message(STATUS, settings, 11),
        ),
        String: (ros_messages.text_message("grün"), String(data="grün")),
        Bool: (ros_messages.flag_message(True), Bool(data=True)),
        Float64MultiArray: (
            ros_messages.vector_message([1.0, 2.0]),
            Float64MultiArray(data=[1.0, 2.0]),
        ),
    }
    for kind, (written, meant) in made.items():
        assert deserialize_message(written, kind) == meant


@pytest.mark.parametrize("velocities", [[], [0.5, 0.25]])
def test_joint_states_and_images_are_read(velocities):
    written = ros_messages.joint_state_message(7, ["a", "b"], [1.0, 2.0], velocities)
    joints = deserialize_message(written, JointState)
    assert (list(joints.position), list(joints.velocity)) == ([1.0, 2.0], velocities)
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    image = deserialize_message(ros_messages.rgb_message(7, pixels), Image)
    assert (image.height, image.width, image.step, image.encoding) == (2, 3, 9, "rgb8")
    assert bytes(image.data) == pixels.tobytes()
    jpeg = deserialize_message(ros_messages.jpeg_message(7, b"\xff\xd8"), CompressedImage)
    assert (jpeg.format, bytes(jpeg.data)) == ("jpeg", b"\xff\xd8")


def fields(text):
    """The lines of a definition without comments and blanks."""
    lines = (re.sub(r"\s+", " ", line.split("#")[0]).strip() for line in text.splitlines())
    # of constants, those of the states stand in an episode: they explain its numbers
    return [line for line in lines if line and "=" not in line]


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_definitions_are_those_that_are_installed(kind):
    installed = installed_definition(kind)
    package = kind.split("/")[0]
    meant = [line.replace(f"{package}/", "") for line in fields(installed)]
    assert [line.replace(f"{package}/", "") for line in fields(DEFINITIONS[kind])] == meant


def test_the_schema_of_another_type_comes_from_where_it_is_installed():
    schema = schema_of("geometry_msgs/msg/PoseStamped", installed_definition)
    text = schema.data.decode()
    for part in ("std_msgs/Header", "geometry_msgs/Quaternion", "builtin_interfaces/Time"):
        assert f"\nMSG: {part}\n" in text
    with pytest.raises(UnknownTypeError, match="odd_msgs/msg/Odd is not known"):
        schema_of("odd_msgs/msg/Odd", installed_definition)
