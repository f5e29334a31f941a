"""Why nothing was ever received on the topic of an input, by who is there in the ROS graph."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

NAMED_AT_MOST = 3
"""Topics, of those that it may have been meant to be."""


@dataclass(frozen=True)
class InputTopic:
    """Who publishes on the topic of an input.

    Attributes:
        topic: its full name.
        expected: the type that is subscribed to, as in sensor_msgs/msg/Image.
        types: those that are published there.
        publishers: full names of the nodes that publish the expected one.
        reliability: of the first of these, `reliable` or `best effort`.
        same_type: full names of the topics on which somebody publishes the expected type.
    """

    topic: str
    expected: str
    types: tuple[str, ...] = ()
    publishers: tuple[str, ...] = ()
    reliability: str = ""
    same_type: tuple[str, ...] = ()


def why_unheard(found: InputTopic, image_transport: str = "") -> str:
    """The reason, for people, without a full stop.

    Args:
        found: on the topic.
        image_transport: the parameter that chooses between images and compressed ones; empty where
            the input is none.
    """
    if not found.types:
        return f"nobody publishes {found.topic}{_perhaps_meant(found)}"
    if found.expected not in found.types:
        return (
            f"{found.topic} is {' and '.join(found.types)}, expected {found.expected}"
            f"{_remedy(found.types, image_transport)}"
        )
    return (
        f"{', '.join(found.publishers)} publishes {found.topic} ({found.reliability}), but nothing "
        f"arrives: it sends nothing, or DDS loses what is large (config/dds/large_images.xml); see "
        f"`ros2 topic hz {found.topic}`"
    )


def _perhaps_meant(found: InputTopic) -> str:
    if not found.same_type:
        return f", and nobody any {found.expected}"
    nearest = difflib.get_close_matches(found.topic, found.same_type, n=NAMED_AT_MOST, cutoff=0.0)
    return f"; {found.expected} is on {', '.join(nearest)}"


def _remedy(types: Sequence[str], image_transport: str) -> str:
    for name, choice in _TRANSPORTS.items():
        if image_transport and name in types:
            return f"; set {image_transport} to {choice}"
    return ""


_TRANSPORTS = {
    "sensor_msgs/msg/Image": "raw",
    "sensor_msgs/msg/CompressedImage": "compressed",
}
