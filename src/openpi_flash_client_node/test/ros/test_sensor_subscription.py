"""sensor_subscription.py: heard, however the publisher offers it and whenever it comes."""

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from openpi_flash_client_node.ros.sensor_subscription import SensorSubscription

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


def publish_until_heard(ros, publisher, heard, sensor):
    def heard_one():
        publisher.publish(String(data="here"))
        sensor.settle()
        return heard

    ros.until(heard_one, "a message")


@pytest.mark.parametrize("offered", [RELIABLE, BEST_EFFORT])
@pytest.mark.parametrize("publisher_first", [True, False])
def test_a_publisher_is_heard_whatever_it_offers(ros, offered, publisher_first):
    node, heard = ros.node("listener"), []
    speaker = ros.node("speaker")
    profile = QoSProfile(depth=5, reliability=offered)
    publisher = speaker.create_publisher(String, "/topic", profile) if publisher_first else None
    sensor = SensorSubscription(node, String, "/topic", heard.append, 2)
    if publisher is None:
        ros.turn(0.2)
        publisher = speaker.create_publisher(String, "/topic", profile)
    publish_until_heard(ros, publisher, heard, sensor)
    (info,) = node.get_subscriptions_info_by_topic("/topic")
    assert info.qos_profile.reliability == offered


def test_publishers_that_offer_different_things_are_heard_one_after_the_other(ros):
    node, heard = ros.node("listener"), []
    speaker = ros.node("speaker")
    sensor = SensorSubscription(node, String, "/topic", heard.append, 2)
    for offered in (RELIABLE, BEST_EFFORT, RELIABLE):
        heard.clear()
        profile = QoSProfile(depth=5, reliability=offered)
        publisher = speaker.create_publisher(String, "/topic", profile)
        publish_until_heard(ros, publisher, heard, sensor)


def test_destroy_leaves_no_subscription(ros):
    node = ros.node("listener")
    before = [subscription.topic_name for subscription in node.subscriptions]
    SensorSubscription(node, String, "/topic", print, 2).destroy()
    assert [subscription.topic_name for subscription in node.subscriptions] == before
