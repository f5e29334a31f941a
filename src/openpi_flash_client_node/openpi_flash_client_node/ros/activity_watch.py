"""Heeds the controller manager's word on which controllers and hardware are active."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node

from openpi_flash_client_node.ros import qos
from openpi_flash_robot.bridge.controller_activity import Activity, LifecycleState, inactive
from openpi_flash_robot.hold import Hold
from openpi_flash_robot.settings.node_settings import NodeSettings


class ActivityWatch:
    """Knows the newest message, if there are any."""

    def __init__(self, node: Node, settings: NodeSettings, changed: Callable[[], None]) -> None:
        """Subscribe where the messages are installed; else everything counts as active.

        Args:
            node: that subscribes.
            settings: of the node.
            changed: called after each message.
        """
        self._node, self._hardware = node, settings.hardware_components
        self._names = tuple(_controller_of(node, c.topic) or c.name for c in settings.controllers)
        self._changed = changed
        self._activity: Activity | None = None
        self._subscription: Any = None
        if not settings.activity_topic or not settings.controllers:
            return
        try:
            from controller_manager_msgs.msg import ControllerManagerActivity
        except ImportError:
            # an older ros2_control, or none
            return
        self._subscription = node.create_subscription(
            ControllerManagerActivity, settings.activity_topic, self._hear, qos.LATCHED
        )

    def look(self) -> Hold | None:
        """Which controller or hardware is not active; None if all are, or nothing is known."""
        if self._activity is None:
            return None
        return inactive(self._activity, self._names, self._hardware)

    def destroy(self) -> None:
        """End the subscription."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)

    def _hear(self, message: Any) -> None:
        self._activity = Activity(
            _states(message.controllers), _states(message.hardware_components)
        )
        self._changed()


def _states(named: Any) -> dict[str, LifecycleState]:
    return {item.name: LifecycleState(item.state.id, item.state.label) for item in named}


def _controller_of(node: Node, topic: str) -> str:
    """The name of the controller that has a topic of its own, such as `/arm/commands`."""
    return str(node.resolve_topic_name(topic)).rpartition("/")[0].rpartition("/")[2]
