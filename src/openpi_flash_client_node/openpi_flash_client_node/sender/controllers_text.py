"""The controllers as one argument of a command line, and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from openpi_flash_robot.settings.controllers import Controller, ControllerKind
from openpi_flash_robot.settings.state_inputs import Rotation


def to_text(controllers: Sequence[Controller]) -> str:
    """The controllers as JSON."""
    return json.dumps(
        [
            dataclasses.asdict(c) | {"kind": c.kind.value, "rotation": c.rotation.value}
            for c in controllers
        ]
    )


def from_text(text: str) -> tuple[Controller, ...]:
    """The controllers of `to_text`."""
    return tuple(
        Controller(
            **entry
            | {
                "kind": ControllerKind(entry["kind"]),
                "rotation": Rotation(entry["rotation"]),
                "joints": tuple(entry["joints"]),
                "columns": tuple(entry["columns"]),
                "joint_names": tuple(entry["joint_names"]),
            }
        )
        for entry in json.loads(text)
    )
