"""How the messages of sensors are read: from their bytes, where these are what we think.

rclpy makes Python objects of a message, and copies the pixels of an image three times on the way.
It hands over the bytes as they have arrived, too. They are read by our own readers (`cdr`), after
a comparison with rclpy's: another version of a message would otherwise be misread.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState

from openpi_flash_client_node.ros.messages import stamp_of
from openpi_flash_robot.cdr.images import (
    EncodedImage,
    RawImage,
    read_compressed_image,
    read_image,
)
from openpi_flash_robot.cdr.joint_states import JointStateReader, JointStates
from openpi_flash_robot.cdr.reader import CdrError


class SensorMessages:
    """Reads the messages of one subscription.

    Attributes:
        are_bytes: whether the subscription is to hand over serialized messages.
    """

    def __init__(self, kind: Any) -> None:
        """Choose how.

        Args:
            kind: the message's class. Of a kind without a reader of ours, messages stay as rclpy
                makes them.
        """
        self._kind = kind
        form = FORMS.get(kind)
        self._convert: Callable[[Any], Any] = _as_it_is if form is None else form.convert
        self._read: Callable[[bytes], Any] | None = None
        if form is not None and _agrees_with_rclpy(form):
            self._read = form.reader()

    @property
    def are_bytes(self) -> bool:
        """Whether the subscription is to hand over serialized messages."""
        return self._read is not None

    def read(self, message: Any) -> Any:
        """What the node uses of a message: a RawImage, EncodedImage, JointStates, or the message.

        Args:
            message: of rclpy, or its bytes.

        Raises:
            Exception: rclpy cannot read it either.
        """
        if self._read is None:
            return self._convert(message)
        try:
            return self._read(message)
        except CdrError:
            return self._convert(deserialize_message(message, self._kind))


@dataclass(frozen=True)
class Form:
    """One kind of message.

    Attributes:
        example: a message without empty fields.
        reader: makes what reads the bytes.
        convert: the same from rclpy's message.
    """

    example: Any
    reader: Callable[[], Callable[[bytes], Any]]
    convert: Callable[[Any], Any]


def _agrees_with_rclpy(form: Form) -> bool:
    """Whether reader and rclpy find the same in a message."""
    try:
        found = form.reader()(serialize_message(form.example))
    except Exception:  # a middleware that writes otherwise, or an rclpy that does
        return False
    return vars(found) == vars(form.convert(form.example))


def _as_it_is(message: Any) -> Any:
    return message


def _raw_image(message: Image) -> RawImage:
    return RawImage(
        stamp_of(message.header.stamp),
        message.height,
        message.width,
        message.encoding,
        message.is_bigendian,
        message.step,
        memoryview(message.data),
    )


def _encoded_image(message: CompressedImage) -> EncodedImage:
    return EncodedImage(stamp_of(message.header.stamp), message.format, memoryview(message.data))


def _joint_states(message: JointState) -> JointStates:
    return JointStates(
        stamp_of(message.header.stamp),
        tuple(message.name),
        message.position,
        message.velocity,
        message.effort,
    )


def _example(kind: Any, **fields: Any) -> Any:
    message = kind(**fields)
    message.header.stamp.sec, message.header.stamp.nanosec = -3, 7
    message.header.frame_id = "base"
    return message


_PIXELS = array("B", [1, 2, 3, 4, 5, 6, 7, 8])

FORMS: dict[Any, Form] = {
    Image: Form(
        _example(Image, height=2, width=1, encoding="rgb8", is_bigendian=1, step=4, data=_PIXELS),
        lambda: read_image,
        _raw_image,
    ),
    CompressedImage: Form(
        _example(CompressedImage, format="jpeg", data=_PIXELS),
        lambda: read_compressed_image,
        _encoded_image,
    ),
    JointState: Form(
        _example(
            JointState, name=["arm", "hand"], position=[1.5, 2.5], velocity=[3.5], effort=[4.5]
        ),
        lambda: JointStateReader().read,
        _joint_states,
    ),
}
