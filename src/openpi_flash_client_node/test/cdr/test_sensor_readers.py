"""images.py and joint_states.py: what rclpy reads of the same bytes, or a refusal."""

import array
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header

from openpi_flash_robot.cdr.images import read_compressed_image, read_image
from openpi_flash_robot.cdr.joint_states import JointStateReader
from openpi_flash_robot.cdr.reader import CdrError

TEXTS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)
UINT32 = st.integers(0, 2**32 - 1)
DOUBLES = st.lists(st.floats(allow_nan=False), max_size=9)
OCTETS = st.binary(max_size=40).map(lambda data: array.array("B", data))


@st.composite
def headers(draw):
    header = Header(frame_id=draw(TEXTS))
    header.stamp.sec = draw(st.integers(-(2**31), 2**31 - 1))
    header.stamp.nanosec = draw(st.integers(0, 999_999_999))
    return header


def stamp_ns(message):
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


@given(header=headers(), sizes=st.tuples(UINT32, UINT32, UINT32), encoding=TEXTS, data=OCTETS)
def test_an_image_is_read_as_rclpy_reads_it(header, sizes, encoding, data):
    height, width, step = sizes
    message = Image(
        header=header,
        height=height,
        width=width,
        step=step,
        encoding=encoding,
        is_bigendian=1,
        data=data,
    )
    image = read_image(serialize_message(message))
    assert image.stamp_ns == stamp_ns(message)
    assert (image.height, image.width, image.step) == (height, width, step)
    assert (image.encoding, image.is_bigendian) == (encoding, 1)
    assert image.data == data.tobytes()


@given(header=headers(), name=TEXTS, data=OCTETS)
def test_a_compressed_image_is_read_as_rclpy_reads_it(header, name, data):
    message = CompressedImage(header=header, format=name, data=data)
    image = read_compressed_image(serialize_message(message))
    assert (image.stamp_ns, image.format) == (stamp_ns(message), name)
    assert image.data == data.tobytes()


@given(
    header=headers(),
    names=st.lists(TEXTS, max_size=5),
    numbers=st.lists(st.tuples(DOUBLES, DOUBLES, DOUBLES), min_size=1, max_size=3),
)
def test_joint_states_are_read_as_rclpy_reads_them_one_after_the_other(header, names, numbers):
    reader = JointStateReader()
    for position, velocity, effort in numbers:
        message = JointState(
            header=header, name=names, position=position, velocity=velocity, effort=effort
        )
        states = reader.read(serialize_message(message))
        assert states.stamp_ns == stamp_ns(message)
        assert list(states.name) == names
        assert (states.position, states.velocity) == (message.position, message.velocity)
        assert states.effort == message.effort


def test_names_that_change_are_seen_at_once():
    reader = JointStateReader()
    for names in (["a", "b"], ["a", "c"], ["a", "c", "d"], ["a"], ["a", "b"]):
        message = JointState(name=names, position=[1.0] * len(names))
        assert list(reader.read(serialize_message(message)).name) == names


def big_endian_joint_state():
    def text(value):
        return struct.pack(">I", len(value) + 1) + value + b"\0"

    head = (
        struct.pack(">iI", 3, 7) + text(b"base") + b"???" + struct.pack(">I", 1) + text(b"wrist_1")
    )
    doubles = struct.pack(">I", 1) + struct.pack(">d", 1.5) + struct.pack(">I", 0) * 2
    assert len(head) % 8 == 4
    return b"\x00\x00\x00\x00" + head + doubles


def test_a_big_endian_machines_message_is_read_too():
    message = big_endian_joint_state()
    by_rclpy = deserialize_message(message, JointState)
    assert (by_rclpy.name, list(by_rclpy.position)) == (["wrist_1"], [1.5])
    reader = JointStateReader()
    reader.read(serialize_message(JointState(name=["wrist_1"], position=[4.0])))
    states = reader.read(message)
    assert (states.stamp_ns, list(states.name)) == (3_000_000_007, ["wrist_1"])
    assert list(states.position) == [1.5]
    assert list(reader.read(message).position) == [1.5]


@pytest.mark.parametrize(
    ("read", "message", "size"),
    [
        (read_image, Image(height=1, width=1, step=3, encoding="rgb8", data=[1, 2, 3]), 51),
        (read_compressed_image, CompressedImage(format="jpeg", data=[1, 2, 3]), 39),
        (JointStateReader().read, JointState(name=["a"], position=[1.0]), 52),
    ],
)
def test_a_message_that_was_cut_off_anywhere_is_refused(read, message, size):
    whole = serialize_message(message)
    read(whole[:size])
    for length in range(size):
        with pytest.raises(CdrError):
            read(whole[:length])
