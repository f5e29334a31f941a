"""The process itself: `python -m openpi_flash_client_node.sender CONTROLLERS FD --ros-args ...`.

It reads windows from its standard input and ends when that ends, after the last window is played.
On the file descriptor FD it says whether every controller listens.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from openpi_flash_client_node.sender.commands import command_message, message_type
from openpi_flash_client_node.sender.controllers_text import from_text
from openpi_flash_client_node.sender.playing import Playing
from openpi_flash_client_node.sender.protocol import HEARD, NOT_HEARD, Decoder, NoWindowError
from openpi_flash_robot.settings.controllers import Controller

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
PERIOD_S = 0.01
"""100 commands a second: twice as many as the node sends windows."""


def main() -> None:
    """Send until the node is gone and the last window has ended."""
    # a Ctrl-C and the signals of a launch file reach the node, which ends this process
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    controllers = from_text(sys.argv[1])
    rclpy.init(args=sys.argv[3:], signal_handler_options=SignalHandlerOptions.NO)
    node = Node("command_sender")
    try:
        _run(node, controllers, int(sys.argv[2]))
    finally:
        node.destroy_node()
        rclpy.shutdown()


def _run(node: Node, controllers: tuple[Controller, ...], answers: int) -> None:
    publishers: dict[int, Any] = {
        index: node.create_publisher(message_type(controller), controller.topic, NEWEST)
        for index, controller in enumerate(controllers)
    }
    playing, decoder = Playing(), Decoder()
    words = sys.stdin.fileno()
    os.set_blocking(words, False)
    selector = selectors.DefaultSelector()
    selector.register(words, selectors.EVENT_READ)
    is_open, due, heard = True, time.monotonic(), b""
    while is_open or not playing.has_ended(_now(node)):
        due = max(due + PERIOD_S, time.monotonic())
        is_open = is_open and _listen(selector, words, decoder, playing, due)
        time.sleep(max(0.0, due - time.monotonic()))
        rclpy.spin_once(node, timeout_sec=0.0)  # /clock, where simulated time is used
        before, heard = heard, _heard(publishers)
        if heard != before:
            with contextlib.suppress(BrokenPipeError):
                os.write(answers, heard)
        now = _now(node)
        for index, state in playing.due(now).items():
            publishers[index].publish(command_message(controllers[index], state, now))


def _heard(publishers: Mapping[int, Any]) -> bytes:
    # matched, not only seen: what is published before is lost, and the controller would get the
    # middle of a motion as its first command
    return HEARD if all(p.get_subscription_count() for p in publishers.values()) else NOT_HEARD


def _listen(
    selector: selectors.BaseSelector,
    words: int,
    decoder: Decoder,
    playing: Playing,
    until: float,
) -> bool:
    """Take what the node says until a moment; False when it is gone, or says what makes no sense.

    Either way the windows that are here are played to rest: a velocity must not stand for ever.
    """
    while selector.select(max(0.0, until - time.monotonic())):
        data = os.read(words, 1 << 16)
        if not data:
            return False
        try:
            for index, window in decoder.feed(data):
                playing.take(index, window)
        except NoWindowError:
            return False
        if time.monotonic() >= until:
            break
    return True


def _now(node: Node) -> int:
    now: int = node.get_clock().now().nanoseconds
    return now


if __name__ == "__main__":
    main()
