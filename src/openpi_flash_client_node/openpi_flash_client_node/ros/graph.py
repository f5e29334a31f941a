"""Who is at a topic, by the ROS graph."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from openpi_flash_robot.bridge.command_topic import CommandTopic
from openpi_flash_robot.senses.unheard import InputTopic


def command_topic_of(node: Node, controller: str, topic: str, own_name: str) -> CommandTopic:
    """Who is at the topic of a controller that this node publishes to.

    Args:
        node: looks at the graph.
        controller: its name.
        topic: as the node named it; remapping applies.
        own_name: full name of the node that publishes there for us, once; a second one of the same
            name is another one.
    """
    resolved = node.resolve_topic_name(topic)
    publishers = [_full_name(info) for info in node.get_publishers_info_by_topic(resolved)]
    if own_name in publishers:
        publishers.remove(own_name)
    return CommandTopic(
        controller, resolved, node.count_subscribers(resolved), tuple(sorted(publishers))
    )


def listeners_of(node: Node, topic: str) -> dict[str, bytes]:
    """The nodes that subscribe to a topic, by their full names, and their subscriptions' ids.

    Args:
        node: that looks.
        topic: by its full name.
    """
    found = node.get_subscriptions_info_by_topic(topic)
    return {_full_name(info): bytes(info.endpoint_gid) for info in found}


def input_topic_of(node: Node, topic: str, expected: str) -> InputTopic:
    """Who publishes on the topic of an input that this node subscribes to.

    Args:
        node: that subscribes.
        topic: as the node named it; remapping applies.
        expected: the type that it subscribes to.
    """
    resolved = node.resolve_topic_name(topic)
    found = node.get_publishers_info_by_topic(resolved)
    fitting = [info for info in found if info.topic_type == expected]
    is_reliable = bool(fitting) and (
        fitting[0].qos_profile.reliability is ReliabilityPolicy.RELIABLE
    )
    return InputTopic(
        resolved,
        expected,
        types=tuple(sorted({info.topic_type for info in found})),
        publishers=tuple(sorted({_full_name(info) for info in fitting})),
        reliability="reliable" if is_reliable else "best effort",
        same_type=() if found else _topics_of_type(node, expected),
    )


def _topics_of_type(node: Node, kind: str) -> tuple[str, ...]:
    """The topics on which somebody publishes a type."""
    return tuple(
        name
        for name, types in node.get_topic_names_and_types()
        if kind in types and node.count_publishers(name)
    )


def _full_name(info: Any) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"
