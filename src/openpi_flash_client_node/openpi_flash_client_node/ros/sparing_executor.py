"""An executor that waits for little.

rclpy makes a new wait set whenever it waits, and its cost grows with the entities in it: above all
with the events of every publisher and subscription, which report incompatible partners. A node of
ours has about 20 of these, and a dozen services that only tools call. At 50 timer calls a second
they took a tenth of a core. Here they are waited for now and then.
"""

from __future__ import annotations

import time
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.service import Service

try:
    from rclpy.event_handler import EventHandler
except ImportError:  # Humble
    from rclpy.qos_event import QoSEventHandler as EventHandler

EVENTS_PERIOD_S = 1.0
"""Of the middleware's events: they end in a line of the log."""

TOOLS_PERIOD_S = 0.1
"""Of the services that read and change parameters and read states."""


class SparingExecutor(SingleThreadedExecutor):
    """Single-threaded; looks at events and at the services of tools from time to time only.

    Services of the node's own, timers, subscriptions and lifecycle transitions are served at once.
    """

    def __init__(self, **arguments: Any) -> None:
        """Take rclpy's arguments."""
        super().__init__(**arguments)
        self._events = _Turn(EVENTS_PERIOD_S)
        self._tools = _Turn(TOOLS_PERIOD_S)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for something that is ready and execute it."""
        now = time.monotonic()
        self._events.begin(now)
        self._tools.begin(now)
        super().spin_once(timeout_sec)

    def can_execute(self, entity: Any) -> bool:
        """Whether an entity belongs into the next wait set."""
        if isinstance(entity, EventHandler):
            is_turn = self._events.admits()
        elif isinstance(entity, Service) and _is_for_tools(entity.srv_type):
            is_turn = self._tools.admits()
        else:
            is_turn = True
        return is_turn and super().can_execute(entity)


def _is_for_tools(kind: Any) -> bool:
    return kind.__name__.startswith("Get") or kind.__module__.startswith("rcl_interfaces.")


class _Turn:
    """Opens once in a period, and until it was made use of."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._opens_at = 0.0
        self._is_open = self._is_used = False

    def begin(self, now: float) -> None:
        """A wait may follow."""
        if self._is_used:
            self._is_open = self._is_used = False
            self._opens_at = now + self._period_s
        self._is_open = self._is_open or now >= self._opens_at

    def admits(self) -> bool:
        """Whether an entity may be waited for now."""
        self._is_used = self._is_open
        return self._is_open
