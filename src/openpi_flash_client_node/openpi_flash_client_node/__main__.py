"""Runs the node: `python -m openpi_flash_client_node --ros-args -p server:=10.0.0.5 ...`.

Ends with 0 after SIGINT or SIGTERM, with the robot told to hold; with 2 if a
parameter or an argument is wrong.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Sequence

import rclpy
from rclpy.signals import SignalHandlerOptions

from openpi_flash_client_node.ros.node import ClientNode
from openpi_flash_client_node.ros.secret_parameters import is_secret
from openpi_flash_client_node.ros.sparing_executor import SparingExecutor

RESULT_TURNS = 10
"""Turns of the executor in which the client of a running goal gets its result, at most 0.1 s."""


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal comes; the process's exit code."""
    stopping = _Stopping()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stopping.on_signal)
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # what rclpy raises here has no public type
        return _refused(_without_source_lines(_without_secrets(str(error), arguments or sys.argv)))
    try:
        return _run(stopping)
    finally:
        rclpy.try_shutdown()  # type: ignore[attr-defined]


class _Stopping:
    """Whether a signal has come. A lock, as in `threading.Event`, would stop a second signal."""

    is_requested = False

    def on_signal(self, *_: object) -> None:
        self.is_requested = True


def _run(stopping: _Stopping) -> int:
    try:
        node = ClientNode()
    except ValueError as error:
        if "PARAMETER_NOT_SET" not in str(error):
            raise
        return _refused("a parameter is an empty list, which ROS cannot read; leave it out")
    executor = SparingExecutor()
    executor.add_node(node)
    try:
        if node.wants_autostart and not node.bring_up():
            return 2
        while not (stopping.is_requested or node.is_finished):
            executor.spin_once(timeout_sec=0.1)
        if node.halt():
            for _ in range(RESULT_TURNS):
                executor.spin_once(timeout_sec=0.01)
        return 0
    finally:
        node.stop()
        executor.remove_node(node)
        executor.shutdown()  # its thread must not outlive the context
        node.destroy_node()  # type: ignore[no-untyped-call]


def _without_secrets(message: str, arguments: Sequence[str]) -> str:
    """The message with every key hidden that the command line sets: rcl quotes what it refuses."""
    for argument in arguments:
        name, has_value, value = argument.partition(":=")
        if has_value and value and is_secret(name):
            message = message.replace(value, "(hidden)")
    return message


def _without_source_lines(message: str) -> str:
    """The message of rcl without its source lines, and with the form of a parameter file."""
    short = re.sub(r"\s*, at \S+:\d+", "", message)
    if "params file" not in short:
        return short
    return (
        f"{short}; a parameter file begins with `/**:` (or the node's name) and `ros__parameters:` "
        "above its parameters"
    )


def _refused(why: str) -> int:
    sys.stderr.write(f"error: {why}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
