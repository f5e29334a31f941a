"""sparing_executor.py: what is rarely waited for is served all the same."""

import threading
from functools import partial

import pytest
import rclpy
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.clock import ROSClock
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from rclpy.time import Time
from std_msgs.msg import String
from std_srvs.srv import Trigger

from openpi_flash_client_node.ros.rclpy_versions import ClockType
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


def test_most_waits_are_for_neither_events_nor_the_services_of_tools(ros, sparing):
    executor = SparingExecutor(context=ros.context)
    publisher = sparing.create_publisher(String, "/topic", 1)
    event = publisher.event_handlers[0]
    tool = next(s for s in sparing.services if s.srv_type is ListParameters)
    events, tools = [], []
    for wait in range(200):
        executor.begin_wait(100.0 + 0.02 * wait)
        events.append(executor.can_execute(event))
        tools.append(executor.can_execute(tool))
    assert sum(events) in (4, 5)
    assert 25 <= sum(tools) <= 41
    executor.shutdown()


@pytest.fixture
def alone(ros):
    """A sparing executor and its node, which the test turns."""
    executor = SparingExecutor(context=ros.context)
    node = rclpy.create_node("alone", context=ros.context, use_global_arguments=False)
    executor.add_node(node)
    yield executor, node
    executor.shutdown()
    node.destroy_node()


def spin_until(executor, done):
    for _ in range(2_000):
        if done():
            return
        executor.spin_once(timeout_sec=0.01)
    pytest.fail("it never happened")


def test_timers_need_no_wait_of_rclpy(alone):
    executor, node = alone
    waits, ticks = [], []
    ours = executor.wait_for_ready_callbacks

    def counted(**arguments):
        waits.append(1)
        return ours(**arguments)

    executor.wait_for_ready_callbacks = counted
    node.create_timer(0.001, lambda: ticks.append(1))
    spin_until(executor, lambda: len(waits) >= 2)  # the first one takes what a new node has
    waits.clear(), ticks.clear()
    spin_until(executor, lambda: len(ticks) >= 200)
    assert len(waits) <= 50


def test_all_callbacks_run_on_the_thread_that_spins(ros, alone):
    executor, node = alone
    threads = set()

    def note(*arguments):
        threads.add(threading.get_ident())
        heard.extend(arguments)

    heard = []
    node.create_timer(0.01, note)
    node.create_subscription(String, "/topic", note, 5)
    publisher = ros.node("speaker").create_publisher(String, "/topic", 5)

    def is_heard():
        publisher.publish(String(data="here"))
        return heard

    spin_until(executor, is_heard)
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("way", ["timer", "guard condition"])
def test_what_a_callback_raises_reaches_the_caller(alone, way):
    executor, node = alone

    def fail():
        raise LookupError(way)

    if way == "timer":
        node.create_timer(0.001, fail)
    else:
        node.create_guard_condition(fail).trigger()
    with pytest.raises(LookupError, match=way):
        spin_until(executor, lambda: False)


def test_a_callback_may_destroy_a_timer_that_is_due_as_well(alone):
    executor, node = alone
    called = []

    def end_the_other(mine, other):
        called.append(mine)
        node.destroy_timer(timers[other])

    timers = [
        node.create_timer(0.001, partial(end_the_other, 0, 1)),
        node.create_timer(0.001, partial(end_the_other, 1, 0)),
    ]
    spin_until(executor, lambda: len(called) >= 3)
    assert len(set(called)) == 1


def test_a_cancelled_timer_is_not_called_until_it_is_reset(alone):
    executor, node = alone
    called, others = [], []
    timer = node.create_timer(0.001, lambda: called.append(1))
    timer.cancel()
    node.create_timer(0.001, lambda: others.append(1))
    spin_until(executor, lambda: len(others) >= 5)
    assert called == []
    timer.reset()
    spin_until(executor, lambda: called)


def test_timers_follow_simulated_time(alone):
    executor, node = alone
    clock, ticks = ROSClock(), []
    clock._set_ros_time_is_active(True)
    clock.set_ros_time_override(Time(seconds=10, clock_type=ClockType.ROS_TIME))
    node.create_timer(5.0, lambda: ticks.append(1), clock=clock)
    for _ in range(5):
        executor.spin_once(timeout_sec=0)
    assert ticks == []
    clock.set_ros_time_override(Time(seconds=15, clock_type=ClockType.ROS_TIME))
    spin_until(executor, lambda: ticks)
    for _ in range(5):
        executor.spin_once(timeout_sec=0)
    assert ticks == [1]


def test_a_future_ends_the_wait_for_it(alone):
    executor, _ = alone
    future = Future()
    threading.Timer(0.05, future.set_result, [7]).start()
    executor.spin_until_future_complete(future)
    assert future.result() == 7


def test_shutdown_ends_the_thread_that_waits(alone):
    executor, _ = alone
    executor.spin_once(timeout_sec=0)
    watcher = executor._watcher
    assert watcher.is_alive()
    executor.shutdown()
    assert not watcher.is_alive()
