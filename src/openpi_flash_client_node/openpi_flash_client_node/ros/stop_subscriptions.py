"""Subscribes to what stops the robot: people's switches, and what drivers say of their robots."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Bool

from openpi_flash_client_node.ros import qos
from openpi_flash_robot.settings.node_settings import StopSettings
from openpi_flash_robot.settings.stop_states import SaidState, StopState, StopStateKind, said_by


class StopSubscriptions:
    """The subscriptions of one configuration of the node."""

    def __init__(
        self,
        node: Node,
        settings: StopSettings,
        *,
        switched: Callable[[str, bool], None],
        said: Callable[[StopState, SaidState], None],
    ) -> None:
        """Subscribe.

        Args:
            node: that subscribes.
            settings: to what.
            switched: gets the topic and the value of each switch's messages.
            said: gets each state that a driver publishes.

        Raises:
            ImportError: the messages of a state are not installed; the message says what to do.
        """
        self._node, self._settings = node, settings
        self._made: list[Any] = []
        self._switched, self._said = switched, said
        try:
            self._subscribe()
        except Exception:
            self.destroy()
            raise

    def _subscribe(self) -> None:
        quality = qos.stop_input(is_latched=self._settings.timeout_ns == 0)
        for topic in self._settings.topics:
            self._listen(Bool, topic, partial(self._on_switch, topic), quality)
        for state in self._settings.states:
            kind, callback = _message_type(state), partial(self._on_state, state)
            if state.timeout_ns:
                self._listen(kind, state.topic, callback, qos.stop_input(is_latched=False))
                continue
            # drivers of some versions keep the last message for who joins late, others do not
            for latched_or_not in qos.STATES_ON_CHANGE:
                self._listen(kind, state.topic, callback, latched_or_not)

    def _listen(
        self, kind: type, topic: str, callback: Callable[[Any], None], quality: QoSProfile
    ) -> None:
        self._made.append(self._node.create_subscription(kind, topic, callback, quality))

    def publishers(self) -> dict[str, int]:
        """How many publishers each state that is published on change has, by its name."""
        return {
            state.name: self._node.count_publishers(self._node.resolve_topic_name(state.topic))
            for state in self._settings.states
            if not state.timeout_ns
        }

    def destroy(self) -> None:
        """End the subscriptions."""
        while self._made:
            self._node.destroy_subscription(self._made.pop())

    def _on_switch(self, topic: str, message: Bool) -> None:
        self._switched(topic, message.data)

    def _on_state(self, state: StopState, message: Any) -> None:
        self._said(state, said_by(state.kind, int(getattr(message, _FIELDS[state.kind]))))


def _message_type(state: StopState) -> type:
    if state.kind.is_running:
        return Bool
    package, name = _MESSAGES[state.kind]
    try:
        found: type = getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"stop_state.{state.name} of kind {state.kind.value} needs {package} with {name} "
            f"({error}): sudo apt install ros-$ROS_DISTRO-{package.replace('_', '-')}, or source "
            "the workspace of the robot's driver"
        ) from error
    return found


_MESSAGES = {
    StopStateKind.UR_SAFETY_MODE: ("ur_dashboard_msgs", "SafetyMode"),
    StopStateKind.UR_ROBOT_MODE: ("ur_dashboard_msgs", "RobotMode"),
    StopStateKind.FRANKA_ROBOT_STATE: ("franka_msgs", "FrankaRobotState"),
}
_FIELDS = {
    StopStateKind.UR_SAFETY_MODE: "mode",
    StopStateKind.UR_ROBOT_MODE: "mode",
    StopStateKind.ROBOT_PROGRAM_RUNNING: "data",
    StopStateKind.FRANKA_ROBOT_STATE: "robot_mode",
}
