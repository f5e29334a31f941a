"""What one number of an action means: which interface it commands, in which unit, relative to what.

The server tells clients, so that no robot plays velocities as positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from openpi_flash_models.errors import InferenceConfigError

Interface = Literal[
    "position", "velocity", "effort", "gripper", "eef_pose", "eef_delta", "base_twist"
]
Reference = Literal["absolute", "observed_state", "previous_step"]
UNITS = ("rad", "m", "rad/s", "m/s", "N m", "N", "1")


@dataclass(frozen=True)
class ActionColumn:
    """One number of an action, as the client gets it: in the robot's units.

    Attributes:
        name: of the joint, axis or gripper.
        interface: what it commands. ``gripper`` is a position whose ends are the open and the
            closed hand.
        unit: one of ``UNITS``; ``1`` is a share of the whole range.
        reference: ``absolute``, or what is to be added to it.
        frame: of a Cartesian number; empty where it has none.

    Raises:
        InferenceConfigError: a word that is none of these.
    """

    name: str
    interface: Interface = "position"
    unit: str = "rad"
    reference: Reference = "absolute"
    frame: str = ""

    def __post_init__(self) -> None:
        for what, value, known in (
            ("interface", self.interface, get_args(Interface)),
            ("unit", self.unit, UNITS),
            ("reference", self.reference, get_args(Reference)),
        ):
            if value not in known:
                raise InferenceConfigError(
                    f"action {self.name}: {what} is {value!r}, expected one of {', '.join(known)}"
                )


def joints(*names: str) -> tuple[ActionColumn, ...]:
    """Absolute positions in rad."""
    return tuple(ActionColumn(name) for name in names)


def joint_velocities(*names: str) -> tuple[ActionColumn, ...]:
    """Velocities in rad/s."""
    return tuple(ActionColumn(name, "velocity", "rad/s") for name in names)


def gripper(name: str = "gripper") -> ActionColumn:
    """A gripper's position as a share of its range."""
    return ActionColumn(name, "gripper", "1")
