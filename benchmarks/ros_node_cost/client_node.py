"""The client node as its program runs it, with a stopwatch on the way of each observation.

usage: python benchmarks/ros_node_cost/client_node.py [--each-message] [--rclpy-executor] \
--ros-args ...

When the first answer has come it prints a line. At SIGINT it prints, as JSON, what happened since
SIGUSR1: the CPU seconds from where an observation is due to where its request is ready for the
transport, of each request, and how many frames were copied to Python.
`--each-message` has the executor call back for each message, as where rclpy cannot take messages;
`--rclpy-executor` uses rclpy's own executor.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import deque
from functools import partial
from typing import Any

from rclpy.executors import SingleThreadedExecutor

from openpi_flash_client_node import __main__ as program
from openpi_flash_client_node.ros import node as node_module
from openpi_flash_client_node.ros import sensor_subscription
from openpi_flash_client_node.ros.inputs import Inputs
from openpi_flash_client_node.ros.node import ClientNode
from openpi_flash_robot.bridge.effects import SendRequest
from openpi_flash_robot.link.transport import PolicyConnection, open_policy
from openpi_flash_robot.settings.node_settings import LinkSettings


class Stopwatch:
    """Takes the CPU time of every observation: on the executor's thread and on the link's."""

    def __init__(self) -> None:
        self.frames = 0
        self.taken: list[float] = []
        self._looked_at = self._idle_since = 0.0
        self._sensed: deque[float] = deque()
        self._answered = False

    def start_anew(self, *_: object) -> None:
        """Forget what was measured; what is on its way still counts."""
        self.frames = 0
        self.taken.clear()

    def look(self) -> None:
        """The executor's thread begins to look at the sensors."""
        self._looked_at = time.thread_time()

    def leave(self) -> None:
        """The executor's thread has handed a request to the link's."""
        self._sensed.append(time.thread_time() - self._looked_at)

    def arrive(self) -> float:
        """On the link's thread a request is ready, but for being written into one message."""
        return self._sensed.popleft() + time.thread_time() - self._idle_since

    def answered(self, seconds: float) -> None:
        """A request, which took so much, has its answer."""
        self.taken.append(seconds)
        if not self._answered:
            print("the policy answers", flush=True)
        self._answered = True

    def rest(self) -> None:
        """The link's thread waits for the next request."""
        self._idle_since = time.thread_time()


class TimedConnection:
    """A connection that tells the stopwatch of each request."""

    def __init__(self, connection: PolicyConnection, stopwatch: Stopwatch) -> None:
        self._connection, self._stopwatch = connection, stopwatch
        stopwatch.rest()

    def infer_with_stats(self, *arguments: Any, **named: Any) -> Any:
        """Ask, and tell when."""
        spent = self._stopwatch.arrive()
        result = self._connection.infer_with_stats(*arguments, **named)
        self._stopwatch.answered(spent + result[1].serialize_ms / 1e3)
        self._stopwatch.rest()
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class TimedInputs(Inputs):
    """The node's inputs, which tell the stopwatch when they are looked at, and of each frame."""

    stopwatch: Stopwatch

    def sense(self) -> None:
        """Take what has arrived."""
        self.stopwatch.look()
        super().sense()

    def _on_image(self, *arguments: Any) -> None:
        self.stopwatch.frames += 1
        super()._on_image(*arguments)


class TimedNode(ClientNode):
    """The client node, which tells the stopwatch when it sends."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch
        super().__init__(open_policy=self._open_timed)

    def _open_timed(self, link: LinkSettings) -> Any:
        return TimedConnection(open_policy(link), self._stopwatch)

    def _send(self, effect: SendRequest) -> None:
        super()._send(effect)
        self._stopwatch.leave()


def main() -> None:
    """Run the node's own program until SIGINT."""
    options, _, ros = " ".join(sys.argv[1:]).partition("--ros-args")
    stopwatch = Stopwatch()
    signal.signal(signal.SIGUSR1, stopwatch.start_anew)
    replaced: Any = program
    replaced.ClientNode = partial(TimedNode, stopwatch)
    TimedInputs.stopwatch = stopwatch
    node_module.Inputs = TimedInputs
    if "--rclpy-executor" in options:
        replaced.SparingExecutor = SingleThreadedExecutor
    if "--each-message" in options:
        sensor_subscription._TakenOnRequest.is_open = True
    code = program.main([sys.argv[0], "--ros-args", *ros.split()])
    print(json.dumps({"seconds": stopwatch.taken, "frames": stopwatch.frames}), flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
