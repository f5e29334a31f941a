"""The node's hold on the process that sends: starts it, hands it windows, lets it end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from openpi_flash_client_node.sender.controllers_text import to_text
from openpi_flash_client_node.sender.protocol import HEARD, encode
from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.settings.controllers import Controller

LONGEST_REST = 1 << 16
"""Bytes that wait for a process that is slow to read; then newer windows are dropped, and it brakes
at the end of those it has."""

END_TIMEOUT_S = 2.0
"""How long the process may take to play its last window, which is shorter, and to end."""


class CommandSender:
    """A process that plays windows to controllers which know one command only."""

    def __init__(
        self, controllers: Sequence[Controller], *, name: str, namespace: str, is_sim_time: bool
    ) -> None:
        """Start the process.

        Args:
            controllers: those that it commands.
            name: of its node.
            namespace: of its node.
            is_sim_time: whether its clock is /clock.
        """
        self._indexes = {controller.name: i for i, controller in enumerate(controllers)}
        self.full_name = f"{namespace.rstrip('/')}/{name}"
        self._arguments = (
            (sys.executable, "-m", "openpi_flash_client_node.sender", to_text(controllers)),
            (
                *("--ros-args", "-r", f"__node:={name}", "-r", f"__ns:={namespace}"),
                *("-p", f"use_sim_time:={'true' if is_sim_time else 'false'}"),
            ),
        )
        self._rest = b""
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._is_heard = False
        self._answers, answers = os.pipe()
        program, options = self._arguments
        # in a session of its own: what ends the node's group must not end what brakes its robot
        process = subprocess.Popen(
            [*program, str(answers), *options],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(answers,),
        )
        os.close(answers)
        os.set_blocking(self._answers, False)
        assert process.stdin is not None
        # a process that is stuck must not block the node
        os.set_blocking(process.stdin.fileno(), False)
        self._rest = b""
        return process

    def send(self, controller: str, window: Motion) -> None:
        """Hand over a window; it is lost if the process is gone, as `problem` tells."""
        stdin = self._process.stdin
        assert stdin is not None
        if len(self._rest) < LONGEST_REST:
            self._rest += encode(self._indexes[controller], window)
        try:
            self._rest = self._rest[os.write(stdin.fileno(), self._rest) :]
        except (BlockingIOError, BrokenPipeError):
            return

    def problem(self) -> str:
        """Why nothing can be commanded; empty if it can. Starts a process anew that has ended."""
        code = self._process.poll()
        if code is None:
            return "" if self._hears() else _NOT_HEARD
        self._close_pipe()
        os.close(self._answers)
        self._process = self._start()
        return f"the process that sends commands has ended with code {code}; it is started again"

    def _hears(self) -> bool:
        """Whether every controller listens to the process, by its own word."""
        try:
            while answer := os.read(self._answers, 1 << 12):
                self._is_heard = answer[-1:] == HEARD
        except BlockingIOError:
            pass
        return self._is_heard

    def close(self) -> None:
        """Let the process play its last window and end."""
        self._close_pipe()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)

    def _close_pipe(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()


_NOT_HEARD = (
    "the process that sends commands has not found the controller yet; a motion must not begin "
    "before it is heard"
)
