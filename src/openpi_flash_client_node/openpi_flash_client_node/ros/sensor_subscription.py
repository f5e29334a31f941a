"""A subscription to a sensor whose publisher may be reliable or not.

It asks for reliable delivery first: over a default Fast DDS, best-effort images in more than one
fragment are almost all lost. A publisher that offers only best effort is then incompatible, which
the middleware reports, whenever that publisher appears. The subscription is made anew with best
effort, which goes with every publisher. (BEST_AVAILABLE decides only once, when it is made, and
does not exist on Humble.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node

from openpi_flash_client_node.ros.qos import sensor
from openpi_flash_client_node.ros.rclpy_versions import (
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
)


class SensorSubscription:
    """Subscribes to a topic whatever the reliability of its publisher."""

    def __init__(
        self, node: Node, kind: type, topic: str, callback: Callable[[Any], None], depth: int
    ) -> None:
        self._node = node
        self._kind = kind
        self._topic = topic
        self._callback = callback
        self._depth = depth
        self._is_refused = False
        self._subscription = self._subscribe(reliable=True)

    def settle(self) -> None:
        """Subscribe again if a publisher turned out to be best effort. Call it periodically."""
        if not self._is_refused:
            return
        self._is_refused = False
        self._node.get_logger().info(
            f"a publisher of {self._topic} is best effort; subscribing again with best effort"
        )
        self.destroy()
        self._subscription = self._subscribe(reliable=False)

    def destroy(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self, *, reliable: bool) -> Any:
        if reliable:
            callbacks = SubscriptionEventCallbacks(incompatible_qos=lambda _: self._refuse())
            try:
                return self._create(reliable=True, event_callbacks=callbacks)
            except UnsupportedEventTypeError:
                pass  # this middleware would not report it: ask for what goes with every publisher
        return self._create(reliable=False)

    def _create(self, *, reliable: bool, **events: Any) -> Any:
        profile = sensor(self._depth, reliable=reliable)
        return self._node.create_subscription(
            self._kind, self._topic, self._callback, profile, **events
        )

    def _refuse(self) -> None:
        # not made anew here: the middleware is still at work with the subscription
        self._is_refused = True
