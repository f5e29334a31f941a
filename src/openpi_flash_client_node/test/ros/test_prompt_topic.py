"""prompt_topic.py on a real graph: instructions from a topic."""

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from conftest import latched
from openpi_flash_msgs.msg import PolicyStatus

QUALITIES = {
    "latched": latched(),
    "volatile": QoSProfile(depth=1),
    "best effort": QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
}


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_publisher_of_any_quality_changes_the_instruction(ros, robot, server, make_node, quality):
    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    publisher = robot.node.create_publisher(String, "/openpi/prompt", QUALITIES[quality])
    robot.node.create_timer(0.1, lambda: publisher.publish(String(data="open the drawer")))
    ros.until(lambda: server.requests[-1]["prompt"] == "open the drawer", "the new prompt")
    ros.until(lambda: robot.status.prompt == "open the drawer", "the prompt in the status")
    assert robot.status.prompt_version == 2


def test_an_instruction_from_before_the_node_started_is_heard(ros, robot, server, make_node):
    publisher = robot.node.create_publisher(String, "/task", latched())
    publisher.publish(String(data="open the drawer"))
    make_node(prompt_topic="/task")
    ros.until(lambda: robot.status and robot.status.prompt == "open the drawer", "the prompt")


def test_the_same_or_an_empty_instruction_changes_nothing(ros, robot, server, make_node):
    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    publisher = robot.node.create_publisher(String, "/openpi/prompt", latched())
    heard = []
    robot.node.create_subscription(String, "/openpi/prompt", heard.append, latched())
    for text in ("stack the cubes", ""):
        robot.node.create_timer(0.1, lambda text=text: publisher.publish(String(data=text)))
    ros.until(lambda: len(heard) >= 20, "many instructions")
    assert (robot.status.prompt, robot.status.prompt_version) == ("stack the cubes", 1)
    assert robot.status.state == PolicyStatus.RUNNING


def test_without_a_topic_there_is_no_subscription(robot, make_node):
    make_node(prompt_topic="")
    assert robot.node.count_subscribers("/openpi/prompt") == 0
