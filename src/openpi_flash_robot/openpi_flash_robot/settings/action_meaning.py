"""What the numbers of an action mean: by the server's word, and by the node's own parameters.

Velocities or deltas of the end effector that are played as positions move the robot wrongly, and
look like positions. So both sides say what they mean, and the node refuses where they differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("position", "gripper", "velocity", "eef_pose", "eef_delta", "base_twist")
"""What the node can play; effort it cannot."""

ABSOLUTE, OBSERVED_STATE, PREVIOUS_STEP = "absolute", "observed_state", "previous_step"
NOT_KNOWN = float("nan")


@dataclass(frozen=True)
class ActionMeaning:
    """One number of an action, by the server's word.

    Attributes:
        name: of the joint, axis or gripper.
        interface: such as position, velocity, eef_delta.
        unit: such as rad, rad/s; 1 is a share of the whole range.
        reference: absolute, or what the number is added to.
        frame: in which a Cartesian number counts; empty where it has none, or is not known.
        rotation: how a rotation is written; empty where it is none.
        closed: of a gripper: the number for the closed hand; NaN where it is not known.
        open: of a gripper: the number for the open hand; NaN where it is not known.
    """

    name: str
    interface: str
    unit: str
    reference: str = ABSOLUTE
    frame: str = ""
    rotation: str = ""
    closed: float = NOT_KNOWN
    open: float = NOT_KNOWN

    def __str__(self) -> str:
        """Such as "joint_1 (velocity, rad/s, absolute)"."""
        return f"{self.name} ({self.interface}, {self.unit}, {self.reference})"


def parse_meanings(value: Any) -> tuple[ActionMeaning, ...] | None:
    """Read `actions` of a server's metadata; None if it is missing.

    Raises:
        ValueError: it makes no sense; the message says what it is.
    """
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"the server's actions is {value!r}, expected a list of maps")
    return tuple(_meaning(entry) for entry in value)


def _meaning(entry: Any) -> ActionMeaning:
    keys = ("name", "interface", "unit", "reference")
    if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), str) for key in keys):
        raise ValueError(
            f"an entry of the server's actions is {entry!r}, expected the texts {', '.join(keys)}"
        )
    texts = (entry.get(key) for key in ("frame", "rotation"))
    numbers = (entry.get(key) for key in ("closed", "open"))
    return ActionMeaning(
        *(entry[key] for key in keys),
        *(text if isinstance(text, str) else "" for text in texts),
        *(_number(number) for number in numbers),
    )


def _number(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return NOT_KNOWN
