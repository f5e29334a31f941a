"""A policy server of our own, for as long as an evaluation lasts."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openpi_flash_training.evaluation.child_process import ChildProcess
from openpi_flash_training.evaluation.served_policy import ServerChoice

READY = "Service ready"
CERTIFICATE = re.compile(r"certificate_sha256\W+([0-9a-f]{64})")


@contextlib.contextmanager
def serving(
    policy_config: str,
    checkpoint: str | None,
    *,
    planner: str | None = None,
    robot_file: Path | None = None,
    ready_s: float = 300.0,
    host: str = "127.0.0.1",
    key: str = "",
) -> Iterator[ServerChoice]:
    """Serve a policy on free ports of this machine, over QUIC, which passes on new episodes.

    Args:
        policy_config: name of an inference config, or python:MODULE:NAME.
        checkpoint: directory or URL; None where the policy needs none.
        planner: checkpoint of a planner beside it, whose subtasks the policy does not read; None:
            there is none.
        robot_file: defines the config or its robot; None: they are ours.
        ready_s: how long loading may take.
        host: address of this machine at which it is reached.
        key: API key that it asks for; empty: it asks for none.

    Raises:
        PolicyFailedError: the server did not become ready; the message has the end of its log.
    """
    with tempfile.TemporaryDirectory(prefix="openpi-flash-eval-") as folder:
        websocket, quic = _free_port(host, socket.SOCK_STREAM), _free_port(host, socket.SOCK_DGRAM)
        action: dict[str, Any] = {"model_config_name": policy_config}
        if checkpoint is not None:
            action["checkpoint_dir"] = checkpoint
        settings: dict[str, Any] = {
            "host": host,
            "state_dir": str(Path(folder) / "state"),
            "admin": {"enabled": False},
            "action": action,
            "action_transport": {"websocket_port": websocket, "quic_port": quic},
        }
        if key:
            keys = Path(folder) / "api_keys"
            keys.touch(mode=0o600)
            keys.write_text(key + "\n")
            settings["api_key_file"] = str(keys)
        if planner is not None:
            settings["planner"] = {"checkpoint_dir": planner, "action_prompt_template": "{task}"}
            ports = {"websocket_port": _free_port(host, socket.SOCK_STREAM)}
            settings["planner_transport"] = {
                **ports,
                "quic_port": _free_port(host, socket.SOCK_DGRAM),
            }
        if robot_file is not None:
            settings["robot_files"] = [str(robot_file.absolute())]
        config = Path(folder) / "server.json"
        config.write_text(json.dumps(settings))
        log = Path(folder) / "server.log"
        command = [sys.executable, "-m", "openpi_flash_server", "serve", "--config", str(config)]
        with ChildProcess("the policy server", command, log) as process:
            trusted = CERTIFICATE.search(process.wait_for(READY, ready_s))
            link = {"server_fingerprint": trusted[1]} if trusted else {}
            yield ServerChoice(f"{host}:{quic}", "quic", link, key=key)


def _free_port(host: str, kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
