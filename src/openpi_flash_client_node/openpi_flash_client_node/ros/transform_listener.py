"""Listens to /tf and /tf_static, and hands on the poses that are wanted.

tf2_ros would do as well, where it is installed; reading the transforms needs its messages alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rclpy.node import Node

from openpi_flash_client_node.ros import qos
from openpi_flash_client_node.ros.messages import stamp_of
from openpi_flash_client_node.ros.sensor_subscription import SensorSubscription
from openpi_flash_robot.senses.transforms import FoundPose, TransformTree

PoseCallback = Callable[[int | None, tuple[float, ...], tuple[float, ...]], None]
"""Gets the stamp, ns (None if nothing moves), the position and the quaternion x, y, z, w."""


@dataclass
class _Wanted:
    frame: str
    child: str
    callback: PoseCallback
    explain: Callable[[str], None]
    newest: int | None = field(default=0)


class TransformListener:
    """The transforms of one configuration of the node.

    Attributes:
        moving: the subscription to /tf, whose messages are taken with those of the sensors.
    """

    def __init__(self, node: Node) -> None:
        """Subscribe.

        Raises:
            ImportError: tf2_msgs is not installed; the message says what to do.
        """
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError as error:
            raise ImportError(
                f"poses by tf need tf2_msgs ({error}): sudo apt install ros-$ROS_DISTRO-tf2-msgs"
            ) from error
        self._node, self._tree = node, TransformTree()
        self._wanted: list[_Wanted] = []
        self.moving = SensorSubscription(
            node, TFMessage, "/tf", partial(self._hear, is_static=False), qos.TRANSFORMS_DEPTH
        )
        self._static = node.create_subscription(
            TFMessage, "/tf_static", partial(self._hear, is_static=True), qos.STATIC_TRANSFORMS
        )

    def want(
        self, frame: str, child: str, callback: PoseCallback, explain: Callable[[str], None]
    ) -> None:
        """Hand on where a child is in a frame, each time that is known of a newer moment.

        Args:
            frame: in which it counts.
            child: whose pose it is.
            callback: gets the poses.
            explain: gets the reason while there is none.
        """
        self._wanted.append(_Wanted(frame, child, callback, explain))

    def take(self) -> None:
        """Take what has arrived, and hand on the newest poses."""
        self.moving.take()
        for wanted in self._wanted:
            found = self._tree.pose(wanted.frame, wanted.child)
            if isinstance(found, FoundPose) and (
                found.stamp_ns is None or found.stamp_ns != wanted.newest
            ):
                wanted.newest = found.stamp_ns
                transform = found.transform
                wanted.callback(
                    found.stamp_ns,
                    tuple(transform.position.tolist()),
                    tuple(transform.quaternion.tolist()),
                )

    def settle(self) -> None:
        """See `SensorSubscription.settle`."""
        self.moving.settle()

    def explain(self) -> None:
        """Say why wanted poses are not known. Call it now and then."""
        for wanted in self._wanted:
            found = self._tree.pose(wanted.frame, wanted.child)
            if isinstance(found, str):
                wanted.explain(
                    f"has no pose of {wanted.child} in {wanted.frame} by /tf and /tf_static: "
                    f"{found}"
                )

    def destroy(self) -> None:
        """End the subscriptions."""
        self.moving.destroy()
        self._node.destroy_subscription(self._static)

    def _hear(self, message: Any, *, is_static: bool) -> None:
        for stamped in message.transforms:
            place, turn = stamped.transform.translation, stamped.transform.rotation
            self._tree.add(
                stamp_of(stamped.header.stamp),
                stamped.header.frame_id,
                stamped.child_frame_id,
                (place.x, place.y, place.z),
                (turn.x, turn.y, turn.z, turn.w),
                is_static=is_static,
            )
