"""A policy server of our own on free ports, for tests that reach it as a robot does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Served:
    """Where a server is reached.

    Attributes:
        websocket: host and port.
        quic: likewise.
        fingerprint: of its certificate.
    """

    websocket: str
    quic: str
    fingerprint: str


@contextlib.contextmanager
def served(folder: Path, policy: str, **settings: Any) -> Iterator[Served]:
    """Serve a policy until the context ends.

    Args:
        folder: for its files.
        policy: python:MODULE:NAME, a module of these tests.
        settings: further ones of the server.
    """
    with socket.socket() as probe, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        probe.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, quic = probe.getsockname()[1], other.getsockname()[1]
    config = {
        "host": "127.0.0.1",
        "state_dir": str(folder / "state"),
        "admin": {"enabled": False},
        "action": {"model_config_name": policy},
        "action_transport": {"websocket_port": port, "quic_port": quic},
        **settings,
    }
    (folder / "server.json").write_text(json.dumps(config))
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "openpi_flash_server", "serve", "--config", folder / "server.json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    said = ""
    for line in process.stdout:
        said += line
        if "Service ready" in line:
            break
    else:
        pytest.fail(said)
    fingerprint = re.search(r"certificate_sha256\W+([0-9a-f]{64})", said)[1]
    try:
        yield Served(f"127.0.0.1:{port}", f"127.0.0.1:{quic}", fingerprint)
    finally:
        process.terminate()
        process.stdout.read()
        process.wait(30)
        process.stdout.close()
