"""The node's publishers: what the bridge wants to be shown, and what moves the robot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from openpi_flash_client_node.ros import messages, qos
from openpi_flash_client_node.ros.graph import command_topic_of
from openpi_flash_client_node.ros.gripper_action import GripperAction
from openpi_flash_client_node.ros.trajectory_messages import TrajectoryMessages
from openpi_flash_client_node.sender.client import CommandSender
from openpi_flash_msgs.msg import ActionChunk, InferenceStats, PolicyStatus, Subtask
from openpi_flash_robot.bridge.command_topic import CommandTopic
from openpi_flash_robot.bridge.diagnostics import DiagnosticReport
from openpi_flash_robot.bridge.effects import (
    PublishChunk,
    PublishPlan,
    PublishStats,
    PublishSubtask,
    PublishTrajectory,
)
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.play.trajectory import Trajectory, motion_of
from openpi_flash_robot.settings.controllers import Controller, ControllerKind
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
        self._trajectories: dict[str, TrajectoryMessages] = {}
        self._preview = TrajectoryMessages(settings.axes)
        self._grippers: dict[str, GripperAction] = {}
        self._sender: CommandSender | None = None
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
            if controller.kind is ControllerKind.JOINT_TRAJECTORY:
                # a second safeguard: a lifecycle publisher sends nothing unless the node is active
                self._controllers[controller.name] = self._node.create_lifecycle_publisher(
                    JointTrajectory, controller.topic, qos.COMMANDS
                )
                self._trajectories[controller.name] = TrajectoryMessages(controller.sent_names)
            elif controller.kind is ControllerKind.GRIPPER:
                gripper = self._settings.gripper_of(controller.joints[0])
                width = gripper.open - gripper.closed if gripper is not None else 0.0
                self._grippers[controller.name] = GripperAction(
                    self._node, controller, width, controller.max_effort
                )
        streamed = [c for c in self._settings.controllers if c.kind.is_streamed]
        if streamed:
            self._sender = CommandSender(
                streamed,
                name=f"{self._node.get_name()}_sender",
                namespace=self._node.get_namespace(),
                is_sim_time=self._node.get_parameter("use_sim_time").value,
            )

    @property
    def commands(self) -> bool:
        """Whether controllers are commanded."""
        return bool(self._controllers or self._grippers or self._sender)

    def command_topics(self) -> list[CommandTopic]:
        """Who is at the controllers' topics."""
        problem = self._sender.problem() if self._sender is not None else ""
        return [self._command_topic(c, problem) for c in self._settings.controllers]

    def _command_topic(self, controller: Controller, problem: str) -> CommandTopic:
        if controller.name in self._grippers:
            is_ready = self._grippers[controller.name].is_ready
            return CommandTopic(controller.name, controller.topic, int(is_ready))
        sender = self._sender if controller.kind.is_streamed else None
        ours = sender.full_name if sender is not None else self._node.get_fully_qualified_name()
        topic = command_topic_of(self._node, controller.name, controller.topic, ours)
        return replace(topic, problem=problem) if sender is not None else topic

    def publish(self, effect: Shown) -> None:
        """Publish what an effect holds."""
        if isinstance(effect, PublishTrajectory):
            self._command(effect.controller, effect.trajectory)
        elif isinstance(effect, PublishPlan):
            self._topics[JointTrajectory].publish(self._preview.message(effect.trajectory))
        elif isinstance(effect, PublishChunk):
            self._topics[ActionChunk].publish(messages.chunk_message(effect))
        elif isinstance(effect, PublishStats):
            self._topics[InferenceStats].publish(messages.stats_message(effect))
        else:
            self._topics[Subtask].publish(messages.subtask_message(effect))
            if String in self._topics:
                self._topics[String].publish(String(data=effect.text))

    def _command(self, controller: Controller, trajectory: Trajectory) -> None:
        if controller.kind is ControllerKind.JOINT_TRAJECTORY:
            message = self._trajectories[controller.name].message(trajectory)
            self._controllers[controller.name].publish(message)
        elif controller.kind is ControllerKind.GRIPPER:
            now: int = self._node.get_clock().now().nanoseconds
            position = float(trajectory.positions[-1, 0])
            self._grippers[controller.name].command(now, position)
        elif self._sender is not None:
            self._sender.send(controller.name, motion_of(trajectory))

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
        if self._sender is not None:
            self._sender.close()
        for gripper in self._grippers.values():
            gripper.destroy()
        for publisher in self._controllers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        for publisher in self._topics.values():
            self._node.destroy_publisher(publisher)
