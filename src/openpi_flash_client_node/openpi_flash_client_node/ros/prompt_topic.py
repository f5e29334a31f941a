"""A topic that changes the instruction, whatever quality of service its publisher offers.

It asks for latched, reliable messages first, so that an instruction which was published before this
node came is heard. A publisher that offers less is incompatible, which the middleware reports;
the subscription is then made anew, and asks for less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import String

from openpi_flash_client_node.ros import qos
from openpi_flash_client_node.ros.rclpy_versions import (
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
)


class PromptTopic:
    """Subscribes to instructions."""

    def __init__(self, node: LifecycleNode, topic: str, changed: Callable[[str], None]) -> None:
        """Subscribe.

        Args:
            node: subscribes.
            topic: with std_msgs/String.
            changed: takes each text that is not empty, also one that it was given before.
        """
        self._node = node
        self._topic = topic
        self._changed = changed
        self._is_refused = False
        self._profiles = list(qos.PROMPTS)
        self._subscription = self._subscribe()

    def settle(self) -> None:
        """Subscribe again if a publisher offers less than was asked for. Call it periodically."""
        if not self._is_refused:
            return
        self._is_refused = False
        if len(self._profiles) > 1:
            self._profiles.pop(0)
            self.destroy()
            self._subscription = self._subscribe()

    def destroy(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self) -> Any:
        callbacks = SubscriptionEventCallbacks(incompatible_qos=self._on_refused)
        try:
            return self._create(event_callbacks=callbacks)
        except UnsupportedEventTypeError:
            # this middleware would not report it: ask for what goes with every publisher
            del self._profiles[:-1]
            return self._create()

    def _create(self, **events: Any) -> Any:
        return self._node.create_subscription(
            String, self._topic, self._on_text, self._profiles[0], **events
        )

    def _on_text(self, message: String) -> None:
        if message.data:
            self._changed(message.data)

    def _on_refused(self, _: Any) -> None:
        # here the middleware is being waited for: `settle` makes the subscription anew
        self._is_refused = True
