"""Writes the table of robots in docs/robots.md from the robots themselves.

`python -m openpi_flash_models.robots.table`
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Sequence

from openpi_flash_models.robots import ROBOTS
from openpi_flash_models.robots.action_column import ActionColumn
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.robot_input import CameraInput, StateInput

_HEAD = "| robot | images | state | actions | rate |\n|---|---|---|---|---|\n"
_NEXT = "<br>"


def table(robots: Iterable[Robot]) -> str:
    """Markdown, a row for each robot, in the order of their names."""
    return _HEAD + "".join(_row(robot) for robot in sorted(robots, key=lambda robot: robot.name))


def _row(robot: Robot) -> str:
    images = _NEXT.join(_camera(camera) for camera in robot.cameras)
    state = _NEXT.join(_state(part) for part in robot.state)
    groups = itertools.groupby(robot.actions, key=_meaning)
    actions = _NEXT.join(_actions(tuple(group)) for _, group in groups)
    return f"| `{robot.name}` | {images} | {state} | {actions} | {robot.control_hz:g} Hz |\n"


def _camera(camera: CameraInput) -> str:
    notes = []
    if not camera.required:
        notes.append("optional")
    if camera.layout == "chw":
        notes.append("channels first")
    return _with_notes(f"`{'/'.join(camera.path)}`", notes)


def _state(part: StateInput) -> str:
    groups = itertools.groupby(zip(part.units, part.names, strict=True), key=lambda pair: pair[0])
    numbers = [
        f"{_first_to_last([name for _, name in group])} {unit}"
        for unit, group in ((unit, tuple(pairs)) for unit, pairs in groups)
    ]
    notes = [note for note in (part.rotation, part.frame) if note]
    return _with_notes(f"`{part.name}` {part.size}: {', '.join(numbers)}", notes)


def _meaning(action: ActionColumn) -> tuple[object, ...]:
    return (
        action.interface,
        action.unit,
        action.reference,
        action.frame,
        action.rotation,
        action.closed,
        action.open,
    )


def _actions(group: Sequence[ActionColumn]) -> str:
    first = group[0]
    notes: list[str] = [] if first.reference == "absolute" else [first.reference]
    notes += [note for note in (first.rotation, first.frame) if note]
    if first.closed is not None and first.open is not None:
        notes.append(f"{first.closed:g} closed, {first.open:g} open")
    names = _first_to_last([action.name for action in group])
    return _with_notes(f"{names} {first.interface} {first.unit}", notes)


def _first_to_last(names: Sequence[str]) -> str:
    if len(names) <= 2:
        return ", ".join(f"`{name}`" for name in names)
    return f"`{names[0]}` to `{names[-1]}`"


def _with_notes(text: str, notes: Sequence[str]) -> str:
    return f"{text} ({', '.join(notes)})" if notes else text


if __name__ == "__main__":
    sys.stdout.write(table(ROBOTS.values()))
