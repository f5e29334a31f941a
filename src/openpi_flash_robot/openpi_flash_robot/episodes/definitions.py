"""The definitions of the messages in an episode, as rosbag2 writes them into MCAP files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from openpi_flash_robot.mcap.writer import Schema

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
JOINT_STATE = "sensor_msgs/msg/JointState"
JOINT_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
VECTOR = "std_msgs/msg/Float64MultiArray"
STRING, BOOL = "std_msgs/msg/String", "std_msgs/msg/Bool"
ACTION_CHUNK = "openpi_flash_msgs/msg/ActionChunk"
SUBTASK = "openpi_flash_msgs/msg/Subtask"
POLICY_STATUS = "openpi_flash_msgs/msg/PolicyStatus"

DEFINITIONS: Mapping[str, str] = {
    "builtin_interfaces/msg/Time": "int32 sec\nuint32 nanosec\n",
    "builtin_interfaces/msg/Duration": "int32 sec\nuint32 nanosec\n",
    "std_msgs/msg/Header": "builtin_interfaces/Time stamp\nstring frame_id\n",
    STRING: "string data\n",
    BOOL: "bool data\n",
    "std_msgs/msg/MultiArrayDimension": "string label\nuint32 size\nuint32 stride\n",
    "std_msgs/msg/MultiArrayLayout": "MultiArrayDimension[] dim\nuint32 data_offset\n",
    VECTOR: "MultiArrayLayout layout\nfloat64[] data\n",
    IMAGE: """\
std_msgs/Header header
uint32 height
uint32 width
string encoding
uint8 is_bigendian
uint32 step
uint8[] data
""",
    COMPRESSED_IMAGE: "std_msgs/Header header\nstring format\nuint8[] data\n",
    JOINT_STATE: """\
std_msgs/Header header
string[] name
float64[] position
float64[] velocity
float64[] effort
""",
    JOINT_TRAJECTORY: """\
std_msgs/Header header
string[] joint_names
trajectory_msgs/JointTrajectoryPoint[] points
""",
    "trajectory_msgs/msg/JointTrajectoryPoint": """\
float64[] positions
float64[] velocities
float64[] accelerations
float64[] effort
builtin_interfaces/Duration time_from_start
""",
    ACTION_CHUNK: """\
std_msgs/Header header
builtin_interfaces/Time observation_stamp
builtin_interfaces/Duration step_dt
uint32 sequence
uint32 horizon
uint32 first_step
string[] names
string[] kinds
string[] units
string[] references
float64[] values
string prompt
uint32 prompt_version
uint32 episode
string model
string checkpoint
""",
    SUBTASK: """\
std_msgs/Header header
string text
string prompt
uint32 sequence
float32 age
string error
""",
    POLICY_STATUS: """\
uint8 DISCONNECTED=0
uint8 CONNECTING=1
uint8 PAUSED=2
uint8 RUNNING=3
uint8 HOLDING=4
uint8 FAULT=5
std_msgs/Header header
uint8 state
uint8 cause
bool resumes_by_itself
bool dry_run
string transport
string server
string session
string model
string checkpoint
string prompt
uint32 prompt_version
uint32 episode
float32 held_for
uint8 jpeg_quality
uint32 sequence
float32 chunk_age
uint32 steps_buffered
float32 limited_share
float32 tracking_error
bool intervention
string message
""",
}
"""By type. What is common to all distributions of ROS 2 stands here, so that a robot without ROS
can write it."""

Find = Callable[[str], str | None]
"""The definition of a type, such as "nav_msgs/msg/Odometry"; None where nobody knows it."""

_SEPARATOR = "=" * 80 + "\n"
_FIELD = re.compile(r"^\s*([A-Za-z]\w*(?:/[\w/]+)?)(?:<=\d+)?(?:\[[^\]]*\])?\s+\w+", re.MULTILINE)
_PLAIN = re.compile(r"bool|byte|char|float(32|64)|u?int(8|16|32|64)|w?string")


class UnknownTypeError(LookupError):
    """Nobody knows the definition of a message; the message of the error names it."""


def schema_of(kind: str, find: Find) -> Schema:
    """The schema of a type, with the definitions of all types that it is made of.

    Args:
        kind: such as "sensor_msgs/msg/Image".
        find: definitions that `DEFINITIONS` lacks.

    Raises:
        UnknownTypeError: `find` does not know it, or a part of it.
    """
    parts: dict[str, str] = {}
    _collect(kind, find, parts)
    text = parts.pop(kind)
    for name, part in parts.items():
        text += f"{_SEPARATOR}MSG: {name.replace('/msg/', '/')}\n{part}"
    return Schema(kind, "ros2msg", text.encode())


def _collect(kind: str, find: Find, parts: dict[str, str]) -> None:
    if kind in parts:
        return
    text = DEFINITIONS.get(kind) or find(kind)
    if text is None:
        raise UnknownTypeError(f"the message definition of {kind} is not known")
    parts[kind] = text if text.endswith("\n") else f"{text}\n"
    package = kind.split("/", maxsplit=1)[0]
    for field in _FIELD.findall(text):
        if not _PLAIN.fullmatch(field):
            pieces = field.split("/")
            holder = pieces[0] if len(pieces) > 1 else package
            _collect(f"{holder}/msg/{pieces[-1]}", find, parts)
