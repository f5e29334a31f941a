"""sensor_subscription.py: taken when needed, however the publisher offers it, whenever it comes."""

import array
import time
from types import SimpleNamespace

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from openpi_flash_client_node.ros import sensor_messages
from openpi_flash_client_node.ros.sensor_subscription import SensorSubscription

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


def publish_until_heard(ros, publisher, heard, sensor):
    def heard_one():
        publisher.publish(String(data="here"))
        sensor.settle()
        sensor.take()
        return heard

    ros.until(heard_one, "a message")


def make_publisher(ros, node, offered=RELIABLE, depth=20):
    return node.create_publisher(String, "/topic", QoSProfile(depth=depth, reliability=offered))


@pytest.fixture
def heard():
    return []


@pytest.fixture
def sensor(ros, heard):
    """A sensor of which one message has been heard."""
    return SensorSubscription(ros.node("listener"), String, "/topic", heard.append, 2)


@pytest.fixture
def publisher(ros, sensor, heard):
    publisher = make_publisher(ros, ros.node("speaker"))
    publish_until_heard(ros, publisher, heard, sensor)
    publisher.wait_for_all_acked()
    sensor.take()
    heard.clear()
    return publisher


def publish(publisher, *texts):
    """Publish, and wait until the subscriptions have it all."""
    for text in texts:
        publisher.publish(String(data=text))
    assert publisher.wait_for_all_acked()


def test_the_newest_messages_are_taken_oldest_first_and_each_once(publisher, sensor, heard):
    publish(publisher, "1", "2", "3", "4")
    sensor.take()
    assert [message.data for message in heard] == ["3", "4"]
    sensor.take()
    publish(publisher, "5")
    sensor.take()
    assert [message.data for message in heard] == ["3", "4", "5"]


def test_no_executor_hands_a_message_over_or_wakes_up_by_it(ros, publisher, sensor, heard):
    publish(publisher, "1")
    started = time.monotonic()
    waits = 0
    while time.monotonic() - started < 0.5:
        ros.executor.spin_once(timeout_sec=0.1)
        waits += 1
    assert heard == []
    assert waits <= 10


def test_how_long_a_message_has_waited_is_known(publisher, sensor, heard):
    waited = []
    sensor._callback = lambda _: waited.append(sensor.waited_ns / 1e9)
    before = time.monotonic()
    publish(publisher, "1")
    time.sleep(0.2)  # it waits for nothing: a message grows old
    sensor.take()
    assert 0.2 <= waited[0] <= time.monotonic() - before
    assert sensor.waited_ns == 0


def test_where_rclpy_cannot_take_messages_the_executor_hands_over_each(
    ros, publisher, sensor, heard
):
    class Handle:
        """As of an rclpy without `take_message`."""

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    subscription, sensor._subscription = sensor._subscription, SimpleNamespace(handle=Handle())
    sensor.take()
    sensor._subscription = subscription
    publish(publisher, "1")
    ros.until(lambda: heard, "a message by the executor")
    publish(publisher, "2")
    sensor.take()
    ros.until(lambda: len(heard) == 2, "the next one by the executor")
    assert [message.data for message in heard] == ["1", "2"]


@pytest.mark.parametrize("offered", [RELIABLE, BEST_EFFORT])
@pytest.mark.parametrize("publisher_first", [True, False])
def test_a_publisher_is_heard_whatever_it_offers(ros, heard, offered, publisher_first):
    node, speaker = ros.node("listener"), ros.node("speaker")
    publisher = make_publisher(ros, speaker, offered) if publisher_first else None
    sensor = SensorSubscription(node, String, "/topic", heard.append, 2)
    if publisher is None:
        ros.turn(0.2)
        publisher = make_publisher(ros, speaker, offered)
    publish_until_heard(ros, publisher, heard, sensor)
    (info,) = node.get_subscriptions_info_by_topic("/topic")
    assert info.qos_profile.reliability == offered


def test_publishers_that_offer_different_things_are_heard_one_after_the_other(ros, sensor, heard):
    speaker = ros.node("speaker")
    for offered in (RELIABLE, BEST_EFFORT, RELIABLE):
        heard.clear()
        publish_until_heard(ros, make_publisher(ros, speaker, offered), heard, sensor)


def test_a_publisher_that_is_started_again_is_heard_again(ros, publisher, sensor, heard):
    for node in [node for node in ros.nodes if node.get_name() == "speaker"]:
        ros.remove(node)
    again = make_publisher(ros, ros.node("speaker"))
    publish_until_heard(ros, again, heard, sensor)


def test_destroy_leaves_no_subscription(ros):
    node = ros.node("listener")
    before = [subscription.topic_name for subscription in node.subscriptions]
    SensorSubscription(node, String, "/topic", print, 2).destroy()
    assert [subscription.topic_name for subscription in node.subscriptions] == before


def small_image():
    message = Image(height=1, width=2, step=6, encoding="rgb8")
    message.header.stamp.sec = 5
    message.data = array.array("B", [1, 2, 3, 4, 5, 6])
    return message


def take_one(ros, kind, message, heard):
    sensor = SensorSubscription(ros.node("listener"), kind, "/topic", heard.append, 2)
    publisher = ros.node("speaker").create_publisher(kind, "/topic", 2)

    def heard_one():
        publisher.publish(message)
        sensor.take()
        return heard

    ros.until(heard_one, "a message")
    return sensor, publisher


def test_an_image_arrives_without_a_copy_of_its_pixels(ros, heard):
    take_one(ros, Image, small_image(), heard)
    image = heard[0]
    assert isinstance(image.data.obj, bytes), "the serialized message itself"
    assert (image.stamp_ns, image.encoding, bytes(image.data)) == (
        5_000_000_000,
        "rgb8",
        b"\1\2\3\4\5\6",
    )


def test_where_rclpy_writes_an_image_otherwise_it_is_taken_as_rclpy_makes_it(
    ros, heard, monkeypatch
):
    def misread(message):
        return sensor_messages.RawImage(0, 0, 0, "", 0, 0, b"")

    form = sensor_messages.FORMS[Image]
    other = sensor_messages.Form(form.example, lambda: misread, form.convert)
    monkeypatch.setitem(sensor_messages.FORMS, Image, other)
    sensor, _ = take_one(ros, Image, small_image(), heard)
    assert not sensor._messages.are_bytes
    assert (heard[0].stamp_ns, bytes(heard[0].data)) == (5_000_000_000, b"\1\2\3\4\5\6")


def test_bytes_that_are_no_message_are_dropped_and_told_once(ros, heard, capfd):
    sensor, publisher = take_one(ros, JointState, JointState(name=["a"], position=[1.0]), heard)
    publisher.wait_for_all_acked()
    sensor.take()
    heard.clear()
    for _ in range(2):
        publisher.publish(bytes.fromhex("0001000001000000000000000000ffff"))
    publisher.publish(JointState(name=["a"], position=[2.0]))
    assert publisher.wait_for_all_acked()
    sensor.take()
    told = capfd.readouterr().err.count("cannot be read as JointState and is dropped")
    assert [list(states.position) for states in heard] == [[2.0]]
    assert told == 1
