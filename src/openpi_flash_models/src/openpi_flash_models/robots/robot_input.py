"""What a robot's request holds: its cameras, the parts of its state, and the task.

The server tells clients, so that a robot's sources can be matched by name, unit and frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.model.inputs import IMAGE_SIZE
from openpi_flash_models.robots.vocabulary import (
    INPUT_KINDS,
    ROTATION_SIZES,
    UNITS,
    InputKind,
    check_word,
)


@dataclass(frozen=True)
class RobotInput:
    """One input of a policy, as clients should send it.

    Attributes:
        path: keys that lead to it in a request.
        kind: what it is.
        shape: of its array; empty for text.
        names: of its numbers, one for each; empty: not known, or no numbers.
        units: one for each of its numbers; empty: not known, or no numbers.
        frame: of its Cartesian numbers; empty where it has none.
        rotation: the convention of its rotation, one of ``ROTATION_SIZES``; empty where it has
            none.
        required: whether a request without it is refused.
    """

    path: tuple[str, ...]
    kind: InputKind
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    frame: str = ""
    rotation: str = ""
    required: bool = True

    def as_metadata(self) -> dict[str, Any]:
        """As a map of the server's metadata: ``unit``, or ``units`` where they differ."""
        units: dict[str, Any] = {"unit": self.units[0] if self.units else ""}
        if len(set(self.units)) > 1:
            units = {"units": list(self.units)}
        return {
            "path": list(self.path),
            "kind": self.kind,
            "shape": list(self.shape),
            "names": list(self.names),
            **units,
            "frame": self.frame,
            "rotation": self.rotation,
            "required": self.required,
        }


PROMPT = RobotInput(("prompt",), "text", ())
"""The task in words."""


@dataclass(frozen=True)
class CameraInput:
    """One camera of a robot.

    Attributes:
        path: keys that lead to the image in a request.
        slot: the model's name for it, one of ``inputs.CAMERAS``.
        layout: the layout that clients are asked to send; both are accepted.
        required: whether a request without it is refused; otherwise its slot is masked.
    """

    path: tuple[str, ...]
    slot: str
    layout: Literal["hwc", "chw"] = "hwc"
    required: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape that needs no resizing for a released model."""
        return self.shape_for(IMAGE_SIZE)

    def shape_for(self, side: int) -> tuple[int, int, int]:
        """The shape that needs no resizing for a model with images of this side, in pixels."""
        return (side, side, 3) if self.layout == "hwc" else (3, side, side)

    @property
    def described(self) -> RobotInput:
        """What clients are told of it, if the model is of a released size."""
        return RobotInput(self.path, "image", self.shape, required=self.required)


@dataclass(frozen=True)
class StateInput:
    """One part of the state, in the order in which the model reads them.

    Attributes:
        key: its key in a request, or the keys that lead to it.
        size: how many numbers it has.
        kind: ``joints``, ``pose`` (a position, then a rotation) or ``vector``.
        names: of its numbers, one for each; empty: not known.
        unit: of all its numbers, or one for each; empty: not known.
        frame: of its Cartesian numbers; empty where it has none.
        rotation: the convention of its rotation, one of ``ROTATION_SIZES``; empty where it has
            none.

    Raises:
        InferenceConfigError: a word that does not exist, or a count that does not fit the size.
    """

    key: str | tuple[str, ...]
    size: int
    kind: InputKind = "vector"
    names: tuple[str, ...] = ()
    unit: str | tuple[str, ...] = ""
    frame: str = ""
    rotation: str = ""

    def __post_init__(self) -> None:
        place = f"state {self.name}"
        check_word(place, "kind", self.kind, [k for k in INPUT_KINDS if k not in ("image", "text")])
        for what, given in (("names", self.names), ("units", self.units)):
            if given and len(given) != self.size:
                raise InferenceConfigError(
                    f"{place}: {len(given)} {what} for {self.size} numbers, expected one for each"
                )
        for name in self.names:
            if self.names.count(name) > 1:
                raise InferenceConfigError(f"{place}: two numbers are named {name}")
        for unit in self.units:
            check_word(place, "unit", unit, UNITS)
        if self.rotation:
            check_word(place, "rotation", self.rotation, ROTATION_SIZES)
        if self.kind == "pose":
            self._check_pose(place)

    def _check_pose(self, place: str) -> None:
        if not self.frame or not self.rotation:
            missing = "rotation" if self.frame else "frame"
            raise InferenceConfigError(f"{place}: {missing} is missing, a pose needs it")
        expected = 3 + ROTATION_SIZES[self.rotation]
        if self.size != expected:
            raise InferenceConfigError(
                f"{place}: size is {self.size}, a pose with {self.rotation} has {expected}"
            )

    @property
    def path(self) -> tuple[str, ...]:
        """Keys that lead to it in a request."""
        return (self.key,) if isinstance(self.key, str) else self.key

    @property
    def name(self) -> str:
        """Its keys, for messages."""
        return "/".join(self.path)

    @property
    def units(self) -> tuple[str, ...]:
        """One for each number; empty: not known."""
        if isinstance(self.unit, str):
            return (self.unit,) * self.size if self.unit else ()
        return self.unit

    @property
    def described(self) -> RobotInput:
        """What clients are told of it."""
        return RobotInput(
            self.path, self.kind, (self.size,), self.names, self.units, self.frame, self.rotation
        )


def joint_state(key: str, *names: str) -> StateInput:
    """Positions of joints in rad."""
    return StateInput(key, len(names), "joints", names, "rad")


def gripper_state(key: str, name: str = "gripper") -> StateInput:
    """A gripper's position as a share of its range."""
    return StateInput(key, 1, "joints", (name,), "1")


def arm_state(key: str, *names: str) -> StateInput:
    """Positions of joints in rad, then a gripper's as a share of its range; the names of all."""
    return StateInput(key, len(names), "joints", names, (*("rad",) * (len(names) - 1), "1"))
