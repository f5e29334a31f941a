"""Where end effectors are: by topics with poses, or by the transforms on /tf."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node

from openpi_flash_client_node.ros import qos
from openpi_flash_client_node.ros.black_box import BlackBox
from openpi_flash_client_node.ros.messages import stamp_of
from openpi_flash_client_node.ros.sensor_subscription import SensorSubscription
from openpi_flash_client_node.ros.state_messages import pose_numbers
from openpi_flash_client_node.ros.transform_listener import TransformListener
from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.settings.node_settings import ObservationSettings, PoseInput
from openpi_flash_robot.settings.state_inputs import StateInput, StateKind

Numbers = tuple[float, ...]


class PoseInputs:
    """The measured poses of commanded end effectors, and the poses by tf of a request."""

    def __init__(
        self,
        node: Node,
        bridge: Bridge[Any],
        settings: ObservationSettings,
        black_box: BlackBox,
        *,
        now: Callable[[], int],
        record: Callable[[SensorSubscription, Any], None],
    ) -> None:
        """Subscribe to what is needed.

        Args:
            node: subscribes.
            bridge: is told the poses.
            settings: say which.
            black_box: keeps them.
            now: this moment on the ROS clock, nanoseconds.
            record: gets the messages that have a topic, as they came.

        Raises:
            ImportError: tf2_msgs is needed and not installed; the message says what to do.
        """
        self._bridge, self._black_box, self._now = bridge, black_box, now
        self._topics: list[SensorSubscription] = []
        self._transforms: TransformListener | None = None
        by_tf = [state for state in settings.states if state.kind is StateKind.TF]
        if by_tf or any(pose.child_frame for pose in settings.poses):
            self._transforms = TransformListener(node)
            for state in by_tf:
                self._transforms.want(
                    state.frame,
                    state.child_frame,
                    partial(self._on_state, state),
                    partial(bridge.states.refuse_vector, state.name),
                )
        for pose in settings.poses:
            if self._transforms is not None and pose.child_frame:
                self._transforms.want(
                    pose.frame,
                    pose.child_frame,
                    partial(self._on_transform, pose),
                    partial(self._explain, pose),
                )
            else:
                callback = partial(self._on_message, pose)
                depth = qos.JOINT_STATES_DEPTH
                self._topics.append(
                    SensorSubscription(
                        node, PoseStamped, pose.topic, callback, depth, record=record
                    )
                )

    def take(self) -> None:
        """Take what has arrived."""
        for topic in self._topics:
            topic.take()
        if self._transforms is not None:
            self._transforms.take()

    def settle(self) -> None:
        """See `SensorSubscription.settle`."""
        for topic in self._topics:
            topic.settle()
        if self._transforms is not None:
            self._transforms.settle()

    def look(self) -> None:
        """Say why poses are missing. Call it now and then."""
        if self._transforms is not None:
            self._transforms.explain()

    def destroy(self) -> None:
        """End the subscriptions."""
        for topic in self._topics:
            topic.destroy()
        if self._transforms is not None:
            self._transforms.destroy()

    def _explain(self, pose: PoseInput, why: str) -> None:
        self._bridge.states.refuse_pose(pose.controller, f"controller {pose.controller} {why}")

    def _on_state(
        self, state: StateInput, stamp_ns: int | None, position: Numbers, quaternion: Numbers
    ) -> None:
        numbers = pose_numbers(state, position, quaternion)
        # what never moves is always of now
        self._bridge.add_vector(state.name, self._now() if stamp_ns is None else stamp_ns, numbers)

    def _on_transform(
        self, pose: PoseInput, stamp_ns: int | None, position: Numbers, quaternion: Numbers
    ) -> None:
        self._add(
            pose, self._now() if stamp_ns is None else stamp_ns, position, quaternion, pose.frame
        )

    def _on_message(self, pose: PoseInput, message: PoseStamped) -> None:
        place, turn = message.pose.position, message.pose.orientation
        self._add(
            pose,
            stamp_of(message.header.stamp),
            (place.x, place.y, place.z),
            (turn.x, turn.y, turn.z, turn.w),
            message.header.frame_id,
        )

    def _add(
        self,
        pose: PoseInput,
        stamp_ns: int,
        position: Numbers,
        quaternion: Numbers,
        frame: str,
    ) -> None:
        axes = self._bridge.add_pose(pose.controller, stamp_ns, position, quaternion, frame)
        if axes:
            self._black_box.pose(stamp_ns, axes)
