"""A subscription to a sensor, whose messages are taken when somebody needs them.

rclpy pays for each message that an executor hands to a callback: with a wake-up, a new wait set,
and a copy of the message in Python. So no executor sees these subscriptions. The middleware keeps
the newest `depth` messages, and `take` fetches them, as bytes where `sensor_messages` reads these.
Where rclpy cannot do that, the executor calls back for each message, and `take` has nothing to do.

Reliable delivery is asked for first: over a default Fast DDS, best-effort images in more than one
fragment are almost all lost. A publisher that offers only best effort is then not heard; the graph
shows it, whenever it appears. The subscription is made anew with best effort, which goes with every
publisher. (BEST_AVAILABLE decides only once, when it is made, and does not exist on Humble. The
middleware's event for incompatible publishers must not be waited for: with Fast DDS each message
that was not taken yet ends such a wait at once.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from openpi_flash_client_node.ros.qos import sensor
from openpi_flash_client_node.ros.rclpy_versions import SubscriptionEventCallbacks
from openpi_flash_client_node.ros.sensor_messages import SensorMessages

CHECK_S = 0.5
"""How long a silent sensor waits before its publishers are looked at again."""

LONGEST_WAIT_NS = 10_000_000_000
"""A message that seems to have waited longer tells of a clock that was set."""


class SensorSubscription:
    """Subscribes to a topic whatever the reliability of its publisher; see the module.

    Attributes:
        taken: how many messages were handed over.
        kind: the messages' class.
        message: the one that is being handed over as it came: its bytes where `sensor_messages`
            reads these, else rclpy's message.
        waited_ns: how long the message that is being handed over has waited here since it arrived;
            0 where the middleware does not say.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        depth: int,
        *,
        record: Callable[[SensorSubscription, Any], None] | None = None,
    ) -> None:
        """Subscribe.

        Args:
            node: where.
            kind: the message's class.
            topic: its name.
            callback: gets each message that is taken, in the form of `sensor_messages`.
            depth: how many of the newest messages can be taken at a time. One is not enough: the
                next one may arrive in fragments that need its place.
            record: gets each message before `callback` does, with this subscription.
        """
        self._node = node
        self.kind = kind
        self._topic = topic
        self._callback = callback
        self._record = record
        self._messages = SensorMessages(kind)
        self._unreadable = 0
        self._depth = depth
        self._group = _TakenOnRequest()
        self._is_reliable = True
        self._is_heard = False
        self._check_at = time.monotonic() + CHECK_S
        self.taken = 0
        self.waited_ns = 0
        self.message: Any = None
        self._subscription = self._subscribe()

    @property
    def topic_name(self) -> str:
        """The topic's full name."""
        name: str = self._subscription.topic_name
        return name

    def take(self) -> None:
        """Hand over the messages that have arrived since the last call, oldest first."""
        if self._group.is_open:
            return
        handle = self._subscription.handle
        messages: list[tuple[Any, Any]] = []
        try:
            with handle:
                while len(messages) < self._depth:
                    # not in rclpy's documentation, but its own wait_for_message does the same
                    taken = handle.take_message(self.kind, self._messages.are_bytes)
                    if taken is None:
                        break
                    messages.append(taken)
        except Exception as error:  # an rclpy that has it no more, or has it otherwise
            self._group.is_open = True
            self._node.get_logger().warning(
                f"messages of {self._topic} cannot be taken when they are needed, so each is "
                f"handled as it arrives, which costs more: {type(error).__name__}: {error}"
            )
        for message, info in messages:
            self.waited_ns = _age_of(info)
            self._hand_over(message)
        self.waited_ns = 0

    def settle(self) -> None:
        """Subscribe again if a publisher turned out to be best effort. Call it periodically."""
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + CHECK_S
        if not self._is_heard:
            self._look_at_publishers()
        self._is_heard = False

    def destroy(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self) -> Any:
        return self._node.create_subscription(
            self.kind,
            self._topic,
            self._hand_over,
            sensor(self._depth, reliable=self._is_reliable),
            callback_group=self._group,
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            raw=self._messages.are_bytes,
        )

    def _hand_over(self, message: Any) -> None:
        self._is_heard = True
        try:
            read = self._messages.read(message)
        except Exception as error:  # of a publisher with other bytes than the type has
            self._note_unreadable(error)
            return
        self.taken += 1
        self.message = message
        if self._record is not None:
            self._record(self, read)
        self._callback(read)
        self.message = None

    def _note_unreadable(self, error: Exception) -> None:
        """Say so once; what is missing then is told by whoever waits for it."""
        self._unreadable += 1
        if self._unreadable == 1:
            self._node.get_logger().warning(
                f"a message of {self._topic} cannot be read as {self.kind.__name__} and is "
                f"dropped, as are others like it: {type(error).__name__}: {error}"
            )

    def _look_at_publishers(self) -> None:
        publishers = self._node.get_publishers_info_by_topic(self.topic_name)
        offers = {publisher.qos_profile.reliability for publisher in publishers}
        if not self._is_reliable or ReliabilityPolicy.BEST_EFFORT not in offers:
            return
        self._node.get_logger().info(
            f"a publisher of {self._topic} is best effort; subscribing again with best effort"
        )
        self.destroy()
        self._is_reliable = False
        self._subscription = self._subscribe()


def _age_of(info: Any) -> int:
    """Time since a message arrived, by what rclpy tells of it, ns; 0 if it tells nothing usable."""
    arrived_ns = info.get("received_timestamp", 0) if isinstance(info, dict) else 0
    age_ns = time.time_ns() - arrived_ns
    return age_ns if 0 <= age_ns <= LONGEST_WAIT_NS else 0


class _TakenOnRequest(ReentrantCallbackGroup):
    """Keeps its subscription out of every executor's wait set, until it is the executor's."""

    is_open = False

    def can_execute(self, entity: Any) -> bool:  # noqa: ARG002 - rclpy names it
        return self.is_open
