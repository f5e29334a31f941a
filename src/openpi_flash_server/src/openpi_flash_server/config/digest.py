"""A digest of the settings that decide what a server answers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from openpi_flash_server.config.server_config import ServerConfig


def config_digest(config: ServerConfig) -> str:
    """`sha256:` and 64 digits, over action, planner and the robot files' contents.

    Ports, keys, logging, the watchdog and the paths of robot files do not count: replicas of one
    model that listen elsewhere have one digest. Live changes of prompts do not change it; they
    change the prompt version.
    """
    decides = config.model_dump(
        mode="json",
        include={"action", "planner"},
        exclude={
            "action": {"watchdog_s", "reload_memory"},
            "planner": {"watchdog_s", "reload_memory"},
        },
    )
    total = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    for file in config.robot_files:
        total.update(hashlib.sha256(Path(file).expanduser().read_bytes()).digest())
    return f"sha256:{total.hexdigest()}"
