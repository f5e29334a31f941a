"""The node's publishers: what the bridge wants to be shown, and what moves the robot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from openpi_flash_client_node.ros import messages, qos
from openpi_flash_msgs.msg import ActionChunk, InferenceStats, PolicyStatus, Subtask
from openpi_flash_robot.bridge.diagnostics import DiagnosticReport
from openpi_flash_robot.bridge.effects import (
    PublishChunk,
    PublishPlan,
    PublishStats,
    PublishSubtask,
    PublishTrajectory,
)
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.settings.node_settings import NodeSettings

ACKNOWLEDGE_TIMEOUT_S = 0.5
"""How long a process that ends waits until controllers have acknowledged the hold command."""

Shown = PublishChunk | PublishPlan | PublishStats | PublishSubtask | PublishTrajectory


class Outputs:
    """Publishes on the topics of one configuration of the node."""

    def __init__(self, node: LifecycleNode, settings: NodeSettings) -> None:
        """Make the publishers; those of the controllers not in a dry run.

        Raises:
            Exception: of rclpy, for a topic's name that is none; nothing is left behind.
        """
        self._node = node
        self._settings = settings
        self._topics: dict[type, Any] = {}
        self._controllers: dict[str, Any] = {}
        try:
            self._make()
        except Exception:
            self.destroy()
            raise

    def _make(self) -> None:
        profiles = {
            ActionChunk: ("action_chunk", qos.COMMANDS),
            JointTrajectory: ("preview/joint_trajectory", qos.COMMANDS),
            Subtask: ("subtask", qos.LATCHED),
            PolicyStatus: ("status", qos.STATUS),
            InferenceStats: ("stats", qos.STATISTICS),
            DiagnosticArray: ("/diagnostics", qos.DIAGNOSTICS),
        }
        if self._settings.publish_subtask_text:
            profiles[String] = ("subtask_text", qos.LATCHED)
        for kind, (topic, profile) in profiles.items():
            self._topics[kind] = self._node.create_publisher(kind, topic, profile)
        if self._settings.dry_run:
            return
        for controller in self._settings.controllers:
            # a second safeguard: a lifecycle publisher sends nothing unless the node is active
            self._controllers[controller.name] = self._node.create_lifecycle_publisher(
                JointTrajectory, controller.topic, qos.COMMANDS
            )

    @property
    def commands(self) -> bool:
        """Whether controllers are commanded."""
        return bool(self._controllers)

    def publish(self, effect: Shown) -> None:
        """Publish what an effect holds."""
        if isinstance(effect, PublishTrajectory):
            joints = effect.controller.joints
            message = messages.trajectory_message(effect.trajectory, joints)
            self._controllers[effect.controller.name].publish(message)
        elif isinstance(effect, PublishPlan):
            plan = messages.trajectory_message(effect.trajectory, self._settings.joints)
            self._topics[JointTrajectory].publish(plan)
        elif isinstance(effect, PublishChunk):
            self._topics[ActionChunk].publish(messages.chunk_message(effect))
        elif isinstance(effect, PublishStats):
            self._topics[InferenceStats].publish(messages.stats_message(effect))
        else:
            self._topics[Subtask].publish(messages.subtask_message(effect))
            if String in self._topics:
                self._topics[String].publish(String(data=effect.text))

    def show_status(self, status: Status, now: int) -> None:
        """Publish the status."""
        self._topics[PolicyStatus].publish(messages.status_message(status, self._settings, now))

    def show_diagnostics(self, entries: Sequence[DiagnosticReport], now: int) -> None:
        """Publish the entries of /diagnostics, under the node's full name."""
        name: str = self._node.get_fully_qualified_name()
        self._topics[DiagnosticArray].publish(messages.diagnostics_message(entries, name, now))

    def wait_for_controllers(self) -> None:
        """Wait until the controllers have acknowledged what they were sent."""
        for publisher in self._controllers.values():
            publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_TIMEOUT_S))

    def destroy(self) -> None:
        """End all publishers."""
        for publisher in self._controllers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        for publisher in self._topics.values():
            self._node.destroy_publisher(publisher)
