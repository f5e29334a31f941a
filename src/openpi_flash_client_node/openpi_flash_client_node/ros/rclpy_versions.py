"""What differs between the rclpy of the distributions from Humble to Lyrical, in one place.

Each difference is found by looking for the name, never by the distribution's name: updates of a
distribution bring changes too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

try:
    from rclpy.clock_type import ClockType
except ImportError:  # Humble
    from rclpy.clock import ClockType  # type: ignore[attr-defined]

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

try:
    from rclpy.exceptions import InvalidHandle
except ImportError:  # Humble
    from rclpy.handle import InvalidHandle  # type: ignore[no-redef]

__all__ = [
    "ClockType",
    "InvalidHandle",
    "SubscriptionEventCallbacks",
    "UnsupportedEventTypeError",
    "takes_result",
]


def takes_result(finish: Callable[..., None]) -> bool:
    """Whether a goal handle's `succeed`, `abort` or `canceled` gives the client its result.

    It does in rclpy 7.1.8 and later of Jazzy, and in Lyrical. Without one, some of those versions
    send an empty result at once, before an execute callback can give another (ros2/rclpy#1598).
    """
    return "response" in inspect.signature(finish).parameters
