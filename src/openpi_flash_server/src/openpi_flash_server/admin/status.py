"""The server's state as JSON: what runs, what answers, who asks. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from openpi_flash_server.admin.administered import Administered, WatchedSlot
from openpi_flash_server.admin.frames import frame_names
from openpi_flash_server.admin.read_at_scrape import ComparedCopies
from openpi_flash_server.admin.session_board import SessionView
from openpi_flash_server.recording.recorder import Recorder
from openpi_flash_server.slot.life import Stage


def status(server: Administered, *, uptime_s: float) -> dict[str, Any]:
    """All of `/status`."""
    views = server.board.look()
    slots = server.slots()
    links = {name: slot.links() for name, slot in slots.items()}
    return {
        **server.identity(),
        "state": state(slots),
        "uptime_s": uptime_s,
        "prompt_version": server.prompts.version,
        "slots": {
            name: {**_slot(slot), **server.board.latencies(name)} for name, slot in slots.items()
        },
        "recording": _recording(server.recorder),
        "shadow": _shadow(server.copies),
        "sessions": [_session(server, view, links.get(view.slot, {})) for view in views],
    }


def state(slots: Mapping[str, WatchedSlot]) -> str:
    """`ready`, or why not: the reason of the first slot that has one."""
    for name, slot in slots.items():
        reason = slot.unhealthy_because
        gets_ready = slot.loads_on_demand and slot.stage not in _OPENED
        if reason is not None and not gets_ready:
            return f"{name}: {reason}"
    return "ready"


def _slot(slot: WatchedSlot) -> dict[str, Any]:
    reason = slot.unhealthy_because
    metadata = slot.metadata or {}
    return {
        "ready": reason is None,
        "stage": str(slot.stage),
        "reason": reason,
        "listens": dict(slot.addresses),
        **_replicas(slot),
        **{key: metadata[key] for key in _SHOWN if key in metadata},
        "counters": {link: dict(values) for link, values in slot.counters().items()},
    }


def _replicas(slot: WatchedSlot) -> dict[str, Any]:
    if slot.replicas is None:
        return {}
    return {"replicas": dataclasses.asdict(slot.replicas.counts)}


def _recording(recorder: Recorder | None) -> dict[str, Any] | None:
    if recorder is None:
        return None
    return {"directory": str(recorder.directory), **dataclasses.asdict(recorder.state)}


def _shadow(copies: Callable[[], ComparedCopies] | None) -> dict[str, Any] | None:
    if copies is None:
        return None
    found = copies()
    return {**found.outcomes, "largest_difference": found.largest_difference}


def _session(
    server: Administered, view: SessionView, links: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    link = links.get(view.client, {})
    sent = link.get("packets_sent", 0)
    observation = server.board.observation(view.id)
    return {
        **dataclasses.asdict(view),
        "rtt_ms": link.get("rtt_ms"),
        "loss": link["packets_lost"] / sent if sent else None,
        "frames": [] if observation is None else frame_names(observation),
    }


_OPENED = (Stage.READY, Stage.DRAINING, Stage.FAILED)

_SHOWN = (
    *("model", "config", "checkpoint", "robot", "action_horizon", "action_dim"),
    *("action_rate_hz", "supports"),
)
"""Of a slot's metadata."""
