"""The services by which people and programs order the robot: prompt, reset, pause and hold.

An answer says what the robot does now, which may be something else than what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from std_srvs.srv import SetBool, Trigger

from openpi_flash_msgs.srv import SetPrompt
from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.link.transport import ImageMessage


class OrderServices:
    """The services of one configuration of the node."""

    def __init__(
        self,
        node: LifecycleNode,
        bridge: Bridge[ImageMessage],
        *,
        now: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        """Offer the services.

        Args:
            node: offers them.
            bridge: is given the orders.
            now: this moment on the ROS clock, nanoseconds.
            changed: called after an order, so that it takes effect at once.
        """
        self._node, self._bridge = node, bridge
        self._now, self._changed = now, changed
        self._services = [
            node.create_service(SetPrompt, "~/set_prompt", self._on_set_prompt),
            node.create_service(Trigger, "~/reset", self._on_reset),
            node.create_service(SetBool, "~/pause", self._on_pause),
            node.create_service(Trigger, "~/hold", self._on_hold),
        ]

    def destroy(self) -> None:
        """Take the services away."""
        for service in self._services:
            self._node.destroy_service(service)

    def _on_set_prompt(
        self, request: SetPrompt.Request, response: SetPrompt.Response
    ) -> SetPrompt.Response:
        self._bridge.set_prompt(self._now(), request.prompt, reset=request.reset)
        self._changed()
        response.success = True
        response.message = self._told(f"the instruction is now {request.prompt!r}")
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        pressed = self._bridge.reset(self._now())
        self._changed()
        response.success = pressed is None
        response.message = self._told("the running chunk is forgotten")
        if pressed is not None:
            response.message = f"the robot stays stopped: {pressed.message}"
        return response

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._bridge.pause(self._now(), request.data)
        self._changed()
        response.success = True
        response.message = self._told("paused" if request.data else "not paused any more")
        return response

    def _on_hold(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._bridge.hold(self._now())
        self._changed()
        response.success, response.message = True, self._told("held until ~/reset is called")
        return response

    def _told(self, done: str) -> str:
        return f"{done}; now {self._bridge.status(self._now()).line}"
