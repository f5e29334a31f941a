"""Goals for a gripper, as control_msgs defines them; only where that package is installed."""

from __future__ import annotations

from typing import Any

from rclpy.action.client import ActionClient
from rclpy.node import Node

from openpi_flash_robot.play.gripper_goals import GripperGoals
from openpi_flash_robot.settings.controllers import Controller


class GripperAction:
    """One gripper, commanded by an action."""

    def __init__(self, node: Node, controller: Controller, width: float, max_effort: float) -> None:
        """Make the client.

        Args:
            node: which sends the goals.
            controller: of kind gripper.
            width: from closed to open, in the axis's unit; 0 where it is not known.
            max_effort: N or N m; 0 leaves it to the gripper.

        Raises:
            ImportError: control_msgs is not installed, or too old; the message says what to do.
        """
        self._controller, self._max_effort = controller, max_effort
        self._kind = _action_type(controller)
        self._goals = GripperGoals(width)
        self._client = ActionClient(node, self._kind, controller.topic)

    @property
    def is_ready(self) -> bool:
        """Whether a gripper listens."""
        return bool(self._client.server_is_ready())

    def command(self, now: int, position: float) -> None:
        """Send a goal if one is due."""
        goal = self._goals.next(now, position)
        if goal is None:
            return
        if not self.is_ready:
            self._goals.forget()
            return
        self._client.send_goal_async(self._goal(goal))

    def _goal(self, position: float) -> Any:
        goal = self._kind.Goal()
        if self._controller.action == "gripper_command":
            goal.command.position, goal.command.max_effort = position, self._max_effort
            return goal
        goal.command.name = list(self._controller.sent_names)
        goal.command.position = [position]
        if self._max_effort:
            goal.command.effort = [self._max_effort]
        return goal

    def destroy(self) -> None:
        """End the client."""
        self._client.destroy()


def _action_type(controller: Controller) -> Any:
    name = {
        "gripper_command": "GripperCommand",
        "parallel_gripper_command": "ParallelGripperCommand",
    }[controller.action]
    try:
        from control_msgs import action

        return getattr(action, name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"controller {controller.name} of kind gripper needs control_msgs with {name} "
            f"({error}): sudo apt install ros-$ROS_DISTRO-control-msgs; on Humble set "
            f"controller.{controller.name}.action to gripper_command"
        ) from error
