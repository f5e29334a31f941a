"""Looks into the ROS graph why inputs were never heard, and tells the bridge and the log."""

from __future__ import annotations

import time
from typing import Any

from rclpy.node import Node

from openpi_flash_client_node.ros.graph import input_topic_of
from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.senses.unheard import why_unheard
from openpi_flash_robot.settings.node_settings import Camera, ObservationSettings

PATIENCE_S = 1.5
"""How long after the start DDS is given to find the other nodes, and they to send something."""


class SilentInputs:
    """Explains the silence of cameras and joint states that nothing has arrived from yet."""

    def __init__(self, node: Node, bridge: Bridge[Any], settings: ObservationSettings) -> None:
        self._node, self._bridge, self._settings = node, bridge, settings
        self._cameras = {camera.name: camera for camera in settings.cameras}
        self._told: dict[str, str] = {}
        self._made_at = time.monotonic()

    def look(self) -> None:
        """Look for those that are silent now. Call it now and then; cheap if none is."""
        if time.monotonic() - self._made_at < PATIENCE_S:
            return
        for name in self._bridge.frames.unheard:
            why = self._why_camera(self._cameras[name])
            self._bridge.frames.explain_silence(name, why)
            self._log(f"camera {name}", why)
        if self._bridge.states.joints.missing:
            why = self._why_joints()
            self._bridge.states.joints.explain_silence(why)
            self._log("joint states", why)

    def _why_camera(self, camera: Camera) -> str:
        kind = "CompressedImage" if camera.is_compressed else "Image"
        found = input_topic_of(self._node, camera.topic, f"sensor_msgs/msg/{kind}")
        return why_unheard(found, f"camera.{camera.name}.image_transport")

    def _why_joints(self) -> str:
        """What is wrong with the topics; which of them is heard is not known once one is."""
        reasons = []
        for pose in self._settings.poses:
            if pose.topic:
                found = input_topic_of(self._node, pose.topic, "geometry_msgs/msg/PoseStamped")
                if not found.publishers:
                    reasons.append(why_unheard(found))
        topics = self._settings.joint_state_topics if self._settings.joint_names else ()
        for topic in topics:
            found = input_topic_of(self._node, topic, "sensor_msgs/msg/JointState")
            if not (found.publishers and self._bridge.states.joints.has_heard):
                reasons.append(why_unheard(found))
        return "; ".join(reasons)

    def _log(self, what: str, why: str) -> None:
        """Warn of a reason once, also if what may have been meant changes."""
        reason = why.partition(";")[0]
        if reason and self._told.get(what) != reason:
            self._node.get_logger().warning(f"{what}: {why}")
        self._told[what] = reason
