"""What an episode says of itself beside its messages: metadata of the file."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Any

from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.public_settings import public_settings, without_password

EPISODE, SERVER, RESULT = "openpi_flash.episode", "openpi_flash.server", "openpi_flash.result"
"""Names of the records; where one occurs again, the later one counts."""

Facts = Mapping[str, str]


class Result(enum.Enum):
    """How an episode went, by a person's or a program's word."""

    UNKNOWN = "unknown"
    SUCCESS = "success"
    FAILURE = "failure"


def episode_facts(node: str, settings: NodeSettings, prompt: str, began: str) -> dict[str, str]:
    """What is known when an episode begins.

    Args:
        node: full name of the node.
        settings: its own; secrets in them are left out.
        prompt: the instruction then.
        began: date and time, UTC.
    """
    return {
        "node": node,
        "began": began,
        "prompt": prompt,
        "joints": ",".join(settings.joints),
        "axes": ",".join(settings.axes),
        "dry_run": _word(settings.dry_run),
        "settings": json.dumps(public_settings(settings)),
    }


def server_facts(settings: NodeSettings, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Which server and policy act, by the server's metadata."""
    checkpoint = metadata.get("checkpoint")
    named = checkpoint if isinstance(checkpoint, Mapping) else {"name": checkpoint or ""}
    return {
        "server": without_password(settings.link.server),
        "transport": settings.link.transport,
        "model": str(metadata.get("model", "")),
        "checkpoint": str(named.get("name", "")),
        "checkpoint_digest": str(named.get("digest", "")),
        "server_metadata": json.dumps(dict(metadata), default=repr, skipkeys=True),
    }


def result_facts(result: Result) -> dict[str, str]:
    """How it went; `success` is there once somebody has said so."""
    facts = {"result": result.value}
    if result is not Result.UNKNOWN:
        facts["success"] = _word(result is Result.SUCCESS)
    return facts


def _word(value: bool) -> str:
    return "true" if value else "false"
