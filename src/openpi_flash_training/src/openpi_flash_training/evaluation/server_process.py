"""A policy server of our own, for as long as an evaluation lasts."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openpi_flash_training.evaluation.policy import PolicyFailedError
from openpi_flash_training.evaluation.served_policy import ServerChoice

READY = "Service ready"
CERTIFICATE = re.compile(r"certificate_sha256\W+([0-9a-f]{64})")
LAST_LINES = 12
STOP_S = 20.0


@contextlib.contextmanager
def serving(
    policy_config: str,
    checkpoint: str | None,
    *,
    robot_file: Path | None = None,
    ready_s: float = 300.0,
) -> Iterator[ServerChoice]:
    """Serve a policy on free ports of this machine, over QUIC, which passes on new episodes.

    Args:
        policy_config: name of an inference config, or python:MODULE:NAME.
        checkpoint: directory or URL; None where the policy needs none.
        robot_file: defines the config or its robot; None: they are ours.
        ready_s: how long loading may take.

    Raises:
        PolicyFailedError: the server did not become ready; the message has the end of its log.
    """
    with tempfile.TemporaryDirectory(prefix="openpi-flash-eval-") as folder:
        websocket, quic = _free_port(socket.SOCK_STREAM), _free_port(socket.SOCK_DGRAM)
        action: dict[str, Any] = {"model_config_name": policy_config}
        if checkpoint is not None:
            action["checkpoint_dir"] = checkpoint
        settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "state_dir": str(Path(folder) / "state"),
            "admin": {"enabled": False},
            "action": action,
            "action_transport": {"websocket_port": websocket, "quic_port": quic},
        }
        if robot_file is not None:
            settings["robot_files"] = [str(robot_file.absolute())]
        config = Path(folder) / "server.json"
        config.write_text(json.dumps(settings))
        log = Path(folder) / "server.log"
        command = [sys.executable, "-m", "openpi_flash_server", "serve", "--config", str(config)]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            said = _wait(process, log, ready_s)
            trusted = CERTIFICATE.search(said)
            link = {"server_fingerprint": trusted[1]} if trusted else {}
            yield ServerChoice(f"127.0.0.1:{quic}", "quic", link)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], log: Path, ready_s: float) -> str:
    """Wait until the server is ready; its log."""
    until = time.monotonic() + ready_s
    while READY not in (said := log.read_text(errors="replace")):
        problem = None
        if process.poll() is not None:
            problem = f"ended with exit code {process.returncode}"
        elif time.monotonic() > until:
            problem = f"was not ready within {ready_s:.0f} s"
        if problem is not None:
            end = "".join(f"\n  | {line}" for line in said.strip().splitlines()[-LAST_LINES:])
            raise PolicyFailedError(f"the policy server {problem}; the end of its log:{end}")
        time.sleep(0.1)
    return said


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
