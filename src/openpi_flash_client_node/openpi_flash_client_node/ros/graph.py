"""Who is at a topic, by the ROS graph."""

from __future__ import annotations

from rclpy.node import Node

from openpi_flash_robot.bridge.command_topic import CommandTopic


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
    publishers = [
        f"{info.node_namespace.rstrip('/')}/{info.node_name}"
        for info in node.get_publishers_info_by_topic(resolved)
    ]
    if own_name in publishers:
        publishers.remove(own_name)
    return CommandTopic(
        controller, resolved, node.count_subscribers(resolved), tuple(sorted(publishers))
    )
