"""One message on its way into an episode's file."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Entry(NamedTuple):
    """One message.

    Attributes:
        topic: where it appears.
        kind: its type, such as "sensor_msgs/msg/Image".
        log_ns: when it came or was sent, on the ROS clock.
        size: bytes of memory that it takes until it is written, about.
        data: CDR, or what makes it on the writer's thread.
    """

    topic: str
    kind: str
    log_ns: int
    size: int
    data: bytes | Callable[[], bytes]
