"""A server with a policy that costs nothing, as a process of its own, for benchmarks to ask."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Served:
    """A server that is ready.

    Attributes:
        pid: of its process.
        websocket_port: TCP.
        quic_port: UDP.
        socket: its unix socket.
    """

    pid: int
    websocket_port: int
    quic_port: int
    socket: Path


@contextlib.contextmanager
def served(directory: Path, action: Mapping[str, Any]) -> Iterator[Served]:
    """Serves the action slot until the block ends; its files are in `directory`."""
    socket = directory / "action.sock"
    config = {
        "host": "127.0.0.1",
        "state_dir": str(directory),
        "log_level": "warning",
        "log_format": "text",
        "admin": {"port": 0},
        "action": dict(action),
        "action_transport": {
            "websocket_port": 0,
            "quic_port": 0,
            "unix_socket_path": str(socket),
        },
    }
    path = directory / "server.json"
    path.write_text(json.dumps(config))
    process = subprocess.Popen(
        [sys.executable, "-m", "openpi_flash_server", "serve", "--config", str(path)],
        stdout=subprocess.PIPE,
        text=True,
        # the ports that the system chose are in the log
        env={**os.environ, "OPENPI_LOG_LEVEL": "info"},
    )
    assert process.stdout is not None
    try:
        ports = None
        for line in process.stdout:
            ports = ports or re.search(r"websocket=\S+:(\d+) quic=\S+:(\d+)", line)
            if line.startswith("Service ready"):
                break
        if ports is None or process.poll() is not None:
            raise SystemExit("the server did not start")
        yield Served(process.pid, int(ports[1]), int(ports[2]), socket)
    finally:
        process.terminate()
        process.communicate()


def observation(cameras: int) -> dict[str, Any]:
    """Images [224, 224, 3] uint8 of noise, and a state [8]."""
    noise = np.random.default_rng(0)
    images = {
        f"camera_{index}": noise.integers(0, 256, (224, 224, 3), np.uint8)
        for index in range(cameras)
    }
    return {**images, "state": np.zeros(8), "prompt": "fold the towel"}
