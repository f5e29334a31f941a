"""Reads the controllers' parameters over ROS, without ever waiting, and has them judged.

Each parameter is asked for alone, and the answers are looked at the next time. A controller is
asked anew when it comes back, at each activation, and again and again while something is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node

from openpi_flash_client_node.ros.graph import listeners_of
from openpi_flash_robot.bridge.controller_parameters import (
    PARAMETER_NAMES,
    Judgement,
    judge,
    parameters_from,
)
from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.settings.controllers import Controller, ControllerKind

ANSWER_S = 1.0
"""How long an answer may take; then the controller is asked again."""

TRIES = 4
"""How often; a service may be found before its process has found us, and the answer is lost."""

ASK_AGAIN_S = 1.0
"""How often a controller is asked that has a wrong parameter."""

TOPIC = "/joint_trajectory"

UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"
"""In place of a name, while DDS has found a subscription but not yet its node."""

APPEAR_S = 1.0
"""How long the controller is waited for while another node listens, from when the robot speaks: a
recorder listens to the topic too, and a robot's controllers appear after its joint states."""

NAME_S = 5.0
"""How long a name is waited for; a participant of DDS that is not of ROS never has one."""


class ControllerCheck:
    """Knows of each controller whether its parameters are good."""

    def __init__(
        self,
        node: Node,
        controllers: tuple[Controller, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nothing yet.

        Args:
            node: that asks.
            controllers: whom.
            clock: steady seconds.
        """
        self._node = node
        self._readings = [
            _Reading(node, controller, clock)
            for controller in controllers
            if controller.kind is ControllerKind.JOINT_TRAJECTORY
        ]

    def look(self, *, is_robot_there: bool) -> Hold | None:
        """Take answers, ask what is to be asked, and warn once of each surprise.

        Args:
            is_robot_there: whether its joints have been heard; else its controllers may be missing
                because it is not up yet.

        Returns:
            Why nothing may be commanded: a wrong parameter, or answers that are not there yet.
        """
        problems = [
            problem for reading in self._readings if (problem := reading.look(is_robot_there))
        ]
        return Hold(HoldKind.COMMANDER, problems[0]) if problems else None

    def ask_again(self) -> None:
        """What was read before does not count any more."""
        for reading in self._readings:
            reading.forget()

    def destroy(self) -> None:
        """End everything."""
        for reading in self._readings:
            reading.destroy()


class _Reading:
    """The parameters of one controller."""

    def __init__(self, node: Node, controller: Controller, clock: Callable[[], float]) -> None:
        self._node, self._controller, self._clock = node, controller, clock
        self._topic = node.resolve_topic_name(controller.topic)
        self._name = self._topic.removesuffix(TOPIC)
        if self._name in ("", self._topic):
            self._name = f"/{controller.name}"
        namespace, _, short = self._name.rpartition("/")
        self._kind = f"{short}.type"
        self._client = self._client_of(self._name)
        self._manager = self._client_of(f"{namespace}/controller_manager")
        self._pending: list[tuple[Any, str, Any]] = []
        self._warned: set[str] = set()
        self._listener: bytes | None = None
        self._seen_at: float | None = None
        self._is_foreign = False
        self.forget()

    def _client_of(self, node_name: str) -> Any:
        return self._node.create_client(GetParameters, f"{node_name}/get_parameters")

    def forget(self) -> None:
        self._drop_pending()
        self._judgement: Judgement | None = None
        self._tries = 0
        self._asked_at = 0.0

    def destroy(self) -> None:
        self._drop_pending()
        self._node.destroy_client(self._client)
        self._node.destroy_client(self._manager)

    def look(self, is_robot_there: bool) -> str | None:
        """Why this controller may not be commanded; None if it may."""
        listeners = listeners_of(self._node, self._topic)
        if listeners.get(self._name) != self._listener:
            self.forget()
            self._listener = listeners.get(self._name)
        if self._listener is None:
            if not self._is_another(listeners, is_robot_there):
                return f"looking for controller {self._controller.name} at {self._topic}"
            self._warn(
                f"controller {self._controller.name}: {', '.join(listeners)} listens to "
                f"{self._topic}, and not {self._name}; its parameters cannot be checked"
            )
            return None
        self._take_answers()
        self._ask_if_due()
        if self._judgement is None:
            return (
                f"reading the parameters of controller {self._controller.name} from "
                f"{self._name}/get_parameters"
            )
        for warning in self._judgement.warnings:
            self._warn(warning)
        for objection in self._judgement.objections:
            self._warn(objection)
        return self._judgement.objections[0] if self._judgement.objections else None

    def _is_another(self, listeners: dict[str, bytes], is_robot_there: bool) -> bool:
        """Whether it is another node than the controller that listens for good."""
        if not listeners or not is_robot_there:
            self._seen_at, self._is_foreign = None, False
            return False
        if self._seen_at is None:
            self._seen_at = self._clock()
        is_named = not any(UNKNOWN_NODE in name for name in listeners)
        waited_s = self._clock() - self._seen_at
        self._is_foreign = self._is_foreign or waited_s > (APPEAR_S if is_named else NAME_S)
        return self._is_foreign

    def _take_answers(self) -> None:
        """Judge the parameters once every answer is there, or stop waiting for them."""
        if not self._pending:
            return
        is_late = self._clock() - self._asked_at > ANSWER_S
        values = {
            name: _value_of(future)
            for client, name, future in self._pending
            if client is self._client and future.done()
        }
        kinds = [f for client, _, f in self._pending if client is self._manager]
        is_complete = len(values) == len(PARAMETER_NAMES)
        if is_complete and (is_late or all(future.done() for future in kinds)):
            kind = _value_of(kinds[0]) if kinds and kinds[0].done() else None
            self._judgement = judge(self._controller, parameters_from(self._name, values, kind))
            self._tries = 0
            self._drop_pending()
        elif is_late:
            self._drop_pending()

    def _ask_if_due(self) -> None:
        if self._pending or not self._is_due(self._clock() - self._asked_at):
            return
        if self._judgement is None and self._tries == TRIES:
            self._judgement = Judgement(warnings=(self._silence,))
            return
        self._tries += 1
        self._asked_at = self._clock()
        if not self._client.service_is_ready():
            return
        self._pending = [self._ask(self._client, name) for name in PARAMETER_NAMES]
        if self._manager.service_is_ready():
            self._pending.append(self._ask(self._manager, self._kind))

    def _is_due(self, since: float) -> bool:
        if self._judgement is None:
            return not self._tries or since > ANSWER_S
        return bool(self._judgement.objections) and since > ASK_AGAIN_S

    @property
    def _silence(self) -> str:
        return (
            f"controller {self._controller.name}: {self._name}/get_parameters does not answer; its "
            f"parameters are not checked"
        )

    @staticmethod
    def _ask(client: Any, name: str) -> tuple[Any, str, Any]:
        return client, name, client.call_async(GetParameters.Request(names=[name]))

    def _drop_pending(self) -> None:
        for client, _, future in self._pending:
            client.remove_pending_request(future)
        self._pending = []

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            self._node.get_logger().warning(message)


def _value_of(future: Any) -> Any:
    """What a parameter is, as plain Python; None if the node does not have it."""
    if future.exception() is not None:
        return None
    values = future.result().values
    field = _FIELDS.get(values[0].type) if len(values) == 1 else None
    return getattr(values[0], field) if field else None


_FIELDS = {
    ParameterType.PARAMETER_BOOL: "bool_value",
    ParameterType.PARAMETER_INTEGER: "integer_value",
    ParameterType.PARAMETER_DOUBLE: "double_value",
    ParameterType.PARAMETER_STRING: "string_value",
    ParameterType.PARAMETER_STRING_ARRAY: "string_array_value",
}
