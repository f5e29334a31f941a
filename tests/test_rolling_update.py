"""Two servers behind a router are replaced one after the other, while an arm moves by them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from swinging_policy import Swing
from test_arm_faults import rig_with
from test_arm_safety import assert_within_limits

from openpi_flash_msgs.msg import PolicyStatus

# rclpy imports a message's type support on first use, and that a parser that warns
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

WAIT = 60.0


class Program:
    """`openpi-flash` as a process; it is ready when it is made."""

    def __init__(self, directory, name, command, config, ready):
        path = directory / f"{name}.json"
        path.write_text(json.dumps(config))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openpi_flash_server", command, "--config", str(path)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line)
            if ready in line:
                return
        raise AssertionError("".join(self.lines))

    def stop(self):
        """Tells it to stop, as systemd and Kubernetes do; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.lines += self.process.stdout
        return self.process.wait(WAIT)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Fleet:
    """Two servers and the router before them: a server to the rig.

    Attributes:
        port: of the router, for QUIC.
    """

    def __init__(self, directory):
        self.directory = directory
        self.ports = [(0, 0), (0, 0)]
        self.servers = [self.start(number) for number in (0, 1)]
        self.ports = [ports_of(server.lines) for server in self.servers]
        routed = [
            {
                "host": "127.0.0.1",
                "server_id": server_id(number),
                "websocket_port": websocket,
                "quic_port": quic,
            }
            for number, (websocket, quic) in enumerate(self.ports)
        ]
        config = {"host": "127.0.0.1", "quic_port": 0, "websocket_port": 0, "servers": routed}
        self.router = Program(directory, "route", "route", config, "Router ready")
        self.port = int(re.search(r"quic=(\d+)", self.router.lines[-1])[1])
        self._said = iter(self.router.process.stdout)
        for _ in routed:
            self.until_router_says("server ready")

    def start(self, number):
        """Start a server; returns when it serves."""
        websocket, quic = self.ports[number]
        config = {
            "action": {"model_config_name": f"python:swinging_policy:{Swing.__name__}"},
            "action_transport": {
                "quic_port": quic,
                "websocket_port": websocket,
                "quic_server_id": server_id(number),
            },
            "host": "127.0.0.1",
            "log_format": "text",
            "state_dir": str(self.directory / "state"),
            "admin": {"enabled": False},
        }
        return Program(self.directory, f"server{number}", "serve", config, "Service ready")

    def replace(self, number):
        """Stop a server and start another one in its place; returns when robots may get it."""
        assert self.servers[number].stop() == 0
        self.servers[number].close()
        self.until_router_says("server not ready")
        self.servers[number] = self.start(number)
        self.until_router_says("server ready")

    def until_router_says(self, text):
        """Read its log up to a line with a text."""
        assert any(text in line for line in self._said)

    def close(self):
        for program in (self.router, *self.servers):
            program.close()


def server_id(number):
    return f"0x{number + 1:016x}"


def ports_of(lines):
    """WebSocket's and QUIC's."""
    found = re.search(r"websocket=\S+:(\d+) quic=\S+:(\d+)", "".join(lines))
    return int(found[1]), int(found[2])


def test_an_update_costs_no_fault_and_no_hold(tmp_path):
    # the rig closes it
    with rig_with(tmp_path, Fleet(tmp_path)) as made:
        began = made.now
        made.server.replace(0)
        # by now the robot has the other one, whichever it had before
        made.wait(0.5)
        made.server.replace(1)
        made.wait(2.0)
        since = [(at, status) for at, status in made.statuses if at >= began]
        assert {status.state for _, status in since} == {PolicyStatus.RUNNING}, [
            (at, status.state, status.message) for at, status in since
        ]
        assert_within_limits(made, began)
