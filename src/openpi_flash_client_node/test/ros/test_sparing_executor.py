"""sparing_executor.py: what is rarely waited for is served all the same."""

import pytest
import rclpy
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from openpi_flash_client_node.ros import sparing_executor
from openpi_flash_client_node.ros.sparing_executor import SparingExecutor


@pytest.fixture
def sparing(ros):
    """A node that a sparing executor turns, in turns with the other nodes."""
    executor = SparingExecutor(context=ros.context)
    node = rclpy.create_node("spared", context=ros.context, use_global_arguments=False)
    executor.add_node(node)
    turn, ros.executor.spin_once = ros.executor.spin_once, None

    def both(timeout_sec):
        executor.spin_once(timeout_sec=0.01)
        turn(timeout_sec=0.01)

    ros.executor.spin_once = both
    yield node
    ros.executor.spin_once = turn
    executor.remove_node(node)
    node.destroy_node()
    executor.shutdown()


def ask(ros, kind, service, **fields):
    asking = ros.node("asking")
    client = asking.create_client(kind, service)
    ros.until(client.service_is_ready, service)
    future = client.call_async(kind.Request(**fields))
    ros.until(future.done, f"an answer of {service}")
    return future.result()


def test_the_services_of_tools_are_answered(ros, sparing):
    assert ask(ros, ListParameters, "/spared/list_parameters").result.names
    found = ask(ros, GetParameters, "/spared/get_parameters", names=["use_sim_time"])
    assert found.values[0].bool_value is False


def test_own_services_timers_and_subscriptions_are_served(ros, sparing):
    heard, ticks = [], []
    sparing.create_service(Trigger, "stop", lambda _, answer: answer)
    sparing.create_timer(0.01, lambda: ticks.append(1))
    sparing.create_subscription(String, "/topic", heard.append, 5)
    assert ask(ros, Trigger, "/stop") is not None
    publisher = ros.node("speaker").create_publisher(String, "/topic", 5)

    def is_heard():
        publisher.publish(String(data="here"))
        return heard and ticks

    ros.until(is_heard, "a message")


def test_events_of_the_middleware_are_still_told(ros, sparing):
    told = []
    events = sparing_executor_events()(incompatible_qos=told.append)
    sparing.create_subscription(String, "/topic", print, 5, event_callbacks=events)
    profile = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    ros.node("speaker").create_publisher(String, "/topic", profile)
    ros.until(lambda: told, "the event")
    assert told[0].total_count == 1


def sparing_executor_events():
    try:
        from rclpy.event_handler import SubscriptionEventCallbacks
    except ImportError:  # Humble
        from rclpy.qos_event import SubscriptionEventCallbacks
    return SubscriptionEventCallbacks


def test_most_waits_are_for_neither_events_nor_the_services_of_tools(ros, sparing, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(sparing_executor.time, "monotonic", lambda: now[0])
    executor = SparingExecutor(context=ros.context)
    events, tools = [], []
    publisher = sparing.create_publisher(String, "/topic", 1)
    event = publisher.event_handlers[0]
    tool = next(s for s in sparing.services if s.srv_type is ListParameters)
    for _ in range(200):
        now[0] += 0.02
        executor.spin_once(timeout_sec=0)
        events.append(executor.can_execute(event))
        tools.append(executor.can_execute(tool))
    assert sum(events) in (4, 5)
    assert 25 <= sum(tools) <= 41
    executor.shutdown()
