"""What the policy server needs: a checkpoint, made once, free ports, and a config file."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.served_policy import ServedPolicy


@dataclass(frozen=True)
class Ports:
    """Where the server listens, on this machine only."""

    action_websocket: int
    action_quic: int
    planner_websocket: int
    planner_quic: int

    def action(self, transport: str) -> int:
        """Return the action slot's port for "quic" or "websocket"."""
        return {"quic": self.action_quic, "websocket": self.action_websocket}[transport]


def free_ports() -> Ports:
    """Return ports that nobody uses at this moment."""
    with contextlib.ExitStack() as held:
        return Ports(
            action_websocket=_free_port(held, socket.SOCK_STREAM),
            action_quic=_free_port(held, socket.SOCK_DGRAM),
            planner_websocket=_free_port(held, socket.SOCK_STREAM),
            planner_quic=_free_port(held, socket.SOCK_DGRAM),
        )


def _free_port(held: contextlib.ExitStack, kind: socket.SocketKind) -> int:
    probe = held.enter_context(socket.socket(socket.AF_INET, kind))
    probe.bind(("127.0.0.1", 0))
    return int(probe.getsockname()[1])


def server_config(
    policy: ServedPolicy, ports: Ports, state_dir: Path, prompt: str
) -> dict[str, Any]:
    """Return the server's config, for this machine only: an action slot, and a planner if any."""
    config: dict[str, Any] = {
        "host": "127.0.0.1",
        "state_dir": str(state_dir),
        "admin": {"enabled": False},
        "action": {
            "model_config_name": policy.config,
            "checkpoint_dir": str(policy.action),
            "default_prompt": prompt,
        },
        "action_transport": {
            "websocket_port": ports.action_websocket,
            "quic_port": ports.action_quic,
        },
    }
    if policy.robot_file is not None:
        config["robot_files"] = [str(policy.robot_file)]
    if policy.planner is not None:
        # weights that nobody trained find no end: a few words are enough to see
        config["planner"] = {"checkpoint_dir": str(policy.planner), "max_generation_tokens": 8}
        if policy.is_trained:
            # it has learnt from the task alone
            config["planner"]["action_prompt_template"] = "{task}"
        config["planner_transport"] = {
            "websocket_port": ports.planner_websocket,
            "quic_port": ports.planner_quic,
        }
    return config


def write_server_config(path: Path, config: dict[str, Any]) -> None:
    """Write the server's config file."""
    path.write_text(json.dumps(config, indent=2) + "\n")


def checkpoint_path(cache: Path) -> Path:
    """Return where the demo checkpoint of this version of the models belongs.

    Its name changes with the source of the package that writes it, so that a changed model never
    meets an old checkpoint.
    """
    spec = importlib.util.find_spec("openpi_flash_models")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("openpi_flash_models is not installed; run scripts/setup")
    package = Path(spec.origin).parent
    digest = hashlib.sha256()
    for source in sorted(package.rglob("*.py")):
        digest.update(str(source.relative_to(package)).encode() + b"\0" + source.read_bytes())
    return cache / f"checkpoint-{digest.hexdigest()[:12]}"


def keep_checkpoint(unfinished: Path, finished: Path) -> None:
    """Give a checkpoint that was written whole its name, and drop those of other versions."""
    for old in finished.parent.glob("checkpoint-*"):
        if old != unfinished:
            shutil.rmtree(old)
    unfinished.rename(finished)
