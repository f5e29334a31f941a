"""What the server says that its actions mean, and whether this node may play them.

The node commands absolute positions of joints and grippers. Other numbers (velocities, deltas of
the end effector) would move the robot wrongly, and look like positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PLAYED = ("position", "gripper")
UNITS = ("rad", "m", "1")


@dataclass(frozen=True)
class ActionMeaning:
    """One number of an action, by the server's word.

    Attributes:
        name: of the joint, axis or gripper.
        interface: such as position, velocity, eef_delta.
        unit: such as rad, rad/s; 1 is a share of the whole range.
        reference: absolute, or what the number is added to.
    """

    name: str
    interface: str
    unit: str
    reference: str

    def __str__(self) -> str:
        """Such as "joint_1 (velocity, rad/s, absolute)"."""
        return f"{self.name} ({self.interface}, {self.unit}, {self.reference})"

    @property
    def is_played(self) -> bool:
        """Whether it is an absolute position."""
        return self.interface in PLAYED and self.unit in UNITS and self.reference == "absolute"


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
    return ActionMeaning(*(entry[key] for key in keys))


def objection(meanings: Sequence[ActionMeaning] | None, action_kind: str) -> str | None:
    """Why these actions may not be played; None if they may.

    Args:
        meanings: None: the server does not say.
        action_kind: the node's parameter; empty if it is not set.
    """
    if meanings is None:
        if action_kind:
            return None
        return (
            "the server does not say what its actions mean (openpi's servers never do); if they "
            "are absolute positions of the joints, set the parameter action_kind to position. "
            "Velocities or deltas of the end effector cannot be played by this node"
        )
    others = [meaning for meaning in meanings if not meaning.is_played]
    if not others:
        return None
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return (
        f"the server's action {others[0]}{more} cannot be played: this node commands absolute "
        f"positions (rad, m, or 1 for a share of the range)"
    )
