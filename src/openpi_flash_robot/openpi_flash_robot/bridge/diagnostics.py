"""The entries of /diagnostics: connection, observation, planner, execution."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.bridge.status import State, Status
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.settings.node_settings import NodeSettings


class Level(enum.IntEnum):
    """The same numbers as diagnostic_msgs/DiagnosticStatus; a test holds them equal."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class DiagnosticReport:
    """One entry: a name, how bad it is, why, and the numbers behind it."""

    name: str
    level: Level
    message: str
    values: Mapping[str, str]


def reports(bridge: Bridge[Any], settings: NodeSettings, now: int) -> list[DiagnosticReport]:
    """All entries at this moment."""
    status = bridge.status(now)
    return [
        _connection(bridge, settings, status),
        _observation(bridge, settings, now),
        _planner(bridge),
        _execution(bridge, settings, status),
    ]


def _connection(bridge: Bridge[Any], settings: NodeSettings, status: Status) -> DiagnosticReport:
    level, message = Level.OK, "connected"
    if not bridge.server.is_connected or status.state is State.FAULT:
        level, message = Level.ERROR, status.message
        if status.state is State.CONNECTING:
            level = Level.WARN
    values = {
        "transport": status.transport or settings.link.transport,
        "server": settings.link.server,
        "connections": str(bridge.server.connections),
    }
    if bridge.server.transport is not None:
        values["why this transport"] = bridge.server.transport.reason
    return DiagnosticReport("connection", level, message, values)


def _observation(bridge: Bridge[Any], settings: NodeSettings, now: int) -> DiagnosticReport:
    problem = bridge.observation_problem
    values = {}
    for camera in settings.observation.cameras:
        stamp_ns = bridge.frames.newest_stamp(camera.name)
        age = "no image yet" if stamp_ns is None else f"{to_seconds(now - stamp_ns):.3f}"
        values[f"age of {camera.name} (s)"] = age
    if problem is None:
        return DiagnosticReport("observation", Level.OK, "", values)
    return DiagnosticReport("observation", Level.WARN, problem.message, values)


def _planner(bridge: Bridge[Any]) -> DiagnosticReport:
    """A planner that fails does not stop the actions, so it is a warning."""
    error = bridge.planner_error
    return DiagnosticReport("planner", Level.WARN if error else Level.OK, error, {})


def _execution(bridge: Bridge[Any], settings: NodeSettings, status: Status) -> DiagnosticReport:
    values = {
        "state": status.state.name,
        "dry_run": str(settings.dry_run).lower(),
        "sequence": str(status.sequence),
        "chunk age (s)": f"{status.chunk_age:.3f}",
        "steps buffered": str(status.steps_buffered),
        "chunks dropped": str(bridge.tally.chunks_dropped),
        "deadline misses": str(bridge.tally.deadline_misses),
    }
    return DiagnosticReport("execution", _EXECUTION_LEVELS[status.state], status.message, values)


_EXECUTION_LEVELS = {
    State.DISCONNECTED: Level.ERROR,
    State.CONNECTING: Level.WARN,
    State.PAUSED: Level.OK,
    State.RUNNING: Level.OK,
    State.HOLDING: Level.WARN,
    State.FAULT: Level.ERROR,
}
