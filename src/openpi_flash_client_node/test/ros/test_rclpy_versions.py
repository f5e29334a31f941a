"""rclpy_versions.py over the names of each distribution's rclpy, real and simulated."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest
from rclpy.action.server import ServerGoalHandle
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from openpi_flash_client_node.ros import (
    prompt_topic,
    qos,
    rclpy_versions,
    run_policy,
)
from openpi_flash_msgs.action import RunPolicy
from openpi_flash_robot.bridge.goal_run import EndReason, GoalEnd


def loaded_again(monkeypatch, missing=(), present=None):
    """The module as it is where some of rclpy's modules are missing, and others are there."""
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    for name, names in (present or {}).items():
        module = ModuleType(name)
        module.__dict__.update(names)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("versions_of_another", rclpy_versions.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_names_of_humble_are_found_where_those_of_later_distributions_are_missing(monkeypatch):
    callbacks, kinds = object(), object()
    found = loaded_again(
        monkeypatch,
        missing=("rclpy.clock_type", "rclpy.event_handler"),
        present={
            "rclpy.clock": {"ClockType": kinds},
            "rclpy.qos_event": {
                "SubscriptionEventCallbacks": callbacks,
                "UnsupportedEventTypeError": RuntimeError,
            },
        },
    )
    assert found.SubscriptionEventCallbacks is callbacks
    assert found.ClockType is kinds


def test_the_names_of_lyrical_are_found_where_those_of_humble_are_gone(monkeypatch):
    callbacks, kinds = object(), object()
    found = loaded_again(
        monkeypatch,
        missing=("rclpy.qos_event",),
        present={
            "rclpy.clock": {},
            "rclpy.clock_type": {"ClockType": kinds},
            "rclpy.event_handler": {
                "SubscriptionEventCallbacks": callbacks,
                "UnsupportedEventTypeError": RuntimeError,
            },
        },
    )
    assert found.SubscriptionEventCallbacks is callbacks
    assert found.ClockType is kinds


class OldHandle:
    """A goal handle as in Humble, Kilted and Jazzy before rclpy 7.1.8."""

    goal_id = SimpleNamespace(uuid=bytes(16))
    is_cancel_requested = True

    def __init__(self):
        self.ends = []

    def succeed(self):
        self.ends.append(("succeed", None))

    def abort(self):
        self.ends.append(("abort", None))

    def canceled(self):
        self.ends.append(("canceled", None))


class NewHandle(OldHandle):
    """A goal handle of rclpy 7.1.8 and of Lyrical: what it is not given is sent empty at once."""

    def succeed(self, response=None):
        self.ends.append(("succeed", response))

    def abort(self, response=None):
        self.ends.append(("abort", response))

    def canceled(self, response=None):
        self.ends.append(("canceled", response))


def finish(handle, reason):
    """End a goal; the results that were given after its handle had ended."""
    later = []
    log = SimpleNamespace(info=lambda _: None)
    server = SimpleNamespace(
        _server=SimpleNamespace(
            notify_execute=lambda handle, callback: later.append(callback(handle))
        ),
        _node=SimpleNamespace(get_logger=lambda: log),
    )
    end = GoalEnd(handle.goal_id.uuid, reason, "why", 1.5)
    run_policy.RunPolicyServer._finish(server, handle, end)
    return later


ENDS = [
    (EndReason.TIMEOUT, "succeed"),
    (EndReason.CANCELED, "canceled"),
    (EndReason.FAULT, "abort"),
]


@pytest.mark.parametrize(("reason", "way"), ENDS)
def test_a_handle_that_takes_the_result_gets_it_once(reason, way):
    handle = NewHandle()
    assert finish(handle, reason) == []
    expected = RunPolicy.Result(reason=int(reason), message="why", elapsed=1.5)
    assert handle.ends == [(way, expected)]


@pytest.mark.parametrize(("reason", "way"), ENDS)
def test_the_result_comes_after_a_handle_that_takes_none(reason, way):
    handle = OldHandle()
    expected = RunPolicy.Result(reason=int(reason), message="why", elapsed=1.5)
    assert finish(handle, reason) == [expected]
    assert handle.ends == [(way, None)]


@pytest.mark.parametrize("name", ["succeed", "abort", "canceled"])
def test_the_installed_rclpy_is_one_of_the_two(name):
    way = getattr(ServerGoalHandle, name)
    names = list(way.__code__.co_varnames[: way.__code__.co_argcount])
    assert names in (["self"], ["self", "response"])
    assert rclpy_versions.takes_result(way) == (names == ["self", "response"])


class NodeWithoutEvents:
    """A node over a middleware that does not report incompatible publishers."""

    def __init__(self):
        self.profiles = []

    def create_subscription(self, kind, topic, callback, profile, *, event_callbacks=None):
        if event_callbacks is not None and event_callbacks.incompatible_qos is not None:
            raise rclpy_versions.UnsupportedEventTypeError
        self.profiles.append(profile)
        return object()


def test_prompts_are_heard_where_the_middleware_reports_nothing():
    node = NodeWithoutEvents()
    topic = prompt_topic.PromptTopic(node, "/prompt", print)
    topic.settle()
    assert node.profiles == [qos.PROMPTS[-1]]
    assert node.profiles[0].reliability is ReliabilityPolicy.BEST_EFFORT
    assert node.profiles[0].durability is DurabilityPolicy.VOLATILE
