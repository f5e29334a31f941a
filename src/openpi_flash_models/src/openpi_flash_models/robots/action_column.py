"""What one number of an action means: which interface it commands, in which unit, relative to what.

The server tells clients, so that no robot plays velocities as positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.robots.vocabulary import ROTATION_SIZES, check_word

Interface = Literal[
    "position", "velocity", "effort", "gripper", "eef_pose", "eef_delta", "base_twist"
]
Reference = Literal["absolute", "observed_state", "previous_step"]
INTERFACE_UNITS: dict[str, tuple[str, ...]] = {
    "position": ("rad", "m", "1"),
    "velocity": ("rad/s", "m/s", "1"),
    "effort": ("N m", "N"),
    "gripper": ("1", "m", "rad"),
    "eef_pose": ("m", "rad", "1"),
    "eef_delta": ("m", "rad", "1"),
    "base_twist": ("m/s", "rad/s"),
}
"""The units in which each interface may be commanded."""

BASE_FRAME = "base_link"
"""The frame that moves with a mobile base, x forward and y to the left (REP 105, REP 103)."""


@dataclass(frozen=True)
class ActionColumn:
    """One number of an action, as the client gets it: in the robot's units.

    Attributes:
        name: of the joint, axis or gripper; the same as in the state that measures it.
        interface: what it commands. ``gripper`` is a position whose ends are the open and the
            closed hand.
        unit: one of ``INTERFACE_UNITS`` of its interface; ``1`` is a share of a range or of a
            greatest speed.
        reference: ``absolute``, or what is to be added to it.
        frame: of a Cartesian number; empty where it has none.
        rotation: the convention of an end effector's rotation that this number is part of, one of
            ``ROTATION_SIZES``; empty where it is part of none.
        closed: a gripper's number for a closed hand; None: not known.
        open: a gripper's number for an open hand; None: not known. Of a gripper whose reference is
            ``previous_step`` they are the numbers that close and open it further.

    Raises:
        InferenceConfigError: a word that is none of these, or two that contradict each other.
    """

    name: str
    interface: Interface = "position"
    unit: str = "rad"
    reference: Reference = "absolute"
    frame: str = ""
    rotation: str = ""
    closed: float | None = None
    open: float | None = None

    def __post_init__(self) -> None:
        place = f"action {self.name}"
        check_word(place, "interface", self.interface, get_args(Interface))
        units = INTERFACE_UNITS[self.interface]
        check_word(place, f"unit of {self.interface}", self.unit, units)
        check_word(place, "reference", self.reference, get_args(Reference))
        if self.rotation:
            check_word(place, "rotation", self.rotation, ROTATION_SIZES)
            if self.interface not in ("eef_pose", "eef_delta"):
                raise InferenceConfigError(
                    f"{place}: rotation is {self.rotation!r}, which only eef_pose and eef_delta "
                    f"have; its interface is {self.interface}"
                )
        ends = (self.closed, self.open)
        if ends == (None, None):
            return
        if self.interface != "gripper":
            raise InferenceConfigError(
                f"{place}: closed and open are for grippers, its interface is {self.interface}"
            )
        if None in ends or self.closed == self.open:
            raise InferenceConfigError(
                f"{place}: closed is {self.closed} and open is {self.open}, expected two "
                "different numbers"
            )

    @property
    def stays_at_zero(self) -> bool:
        """Whether the robot does not move while this number is zero."""
        return self.reference != "absolute" or self.interface in ("velocity", "base_twist")


def joints(*names: str) -> tuple[ActionColumn, ...]:
    """Absolute positions in rad."""
    return tuple(ActionColumn(name) for name in names)


def joint_velocities(*names: str, unit: str = "rad/s") -> tuple[ActionColumn, ...]:
    """Velocities."""
    return tuple(ActionColumn(name, "velocity", unit) for name in names)


def gripper(
    name: str = "gripper", *, closed: float | None = None, open: float | None = None
) -> ActionColumn:
    """A gripper's position as a share of its range; its numbers when closed and when open."""
    return ActionColumn(name, "gripper", "1", closed=closed, open=open)


def base_twist() -> tuple[ActionColumn, ...]:
    """The velocity of a mobile base in its own frame: vx and vy in m/s, wz in rad/s."""
    return tuple(
        ActionColumn(name, "base_twist", unit, frame=BASE_FRAME)
        for name, unit in (("vx", "m/s"), ("vy", "m/s"), ("wz", "rad/s"))
    )
