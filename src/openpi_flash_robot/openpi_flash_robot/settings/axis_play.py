"""How the policy's number for an axis becomes what the axis is commanded, or why it cannot.

One judgement for each axis, over three parties: the server, the node's parameters, the controller.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from openpi_flash_robot.settings.action_meaning import (
    ABSOLUTE,
    KINDS,
    OBSERVED_STATE,
    PREVIOUS_STEP,
    ActionMeaning,
)
from openpi_flash_robot.settings.controllers import Controller, ControllerKind, Gripper


class Reading(enum.Enum):
    """What the number of a step says of its axis."""

    ABSOLUTE = "absolute"
    """Where it should be."""
    FROM_OBSERVED = "from_observed"
    """How far from where it was when the observation was made."""
    PER_STEP = "per_step"
    """How far it should go in this step."""
    PER_SECOND = "per_second"
    """How fast it should go during this step."""

    @property
    def is_rate(self) -> bool:
        """Whether it says how fast to go, not where to be."""
        return self in (Reading.PER_STEP, Reading.PER_SECOND)


@dataclass(frozen=True)
class AxisPlay:
    """How one axis is played: axis = number * scale + offset.

    Attributes:
        meaning: what the number means; for messages and records.
        reading: what it says of the axis.
        scale: what 1 of the policy is in the axis's unit.
        offset: of an absolute number.
        is_gripper: neither faded nor averaged; a hold keeps its command.
        threshold: of a gripper, in the axis's unit: beyond it the hand is opened, else closed; NaN
            for none.
        closed: of a gripper with a threshold.
        open: of a gripper with a threshold.
        stays_at: of a gripper that is told which way to go: the number that leaves it where it is;
            NaN for none.
    """

    meaning: ActionMeaning
    reading: Reading
    scale: float = 1.0
    offset: float = 0.0
    is_gripper: bool = False
    threshold: float = float("nan")
    closed: float = 0.0
    open: float = 0.0
    stays_at: float = float("nan")


class CannotPlayError(ValueError):
    """A number cannot be played; the message names both sides."""


def play_of(
    axis: str,
    meaning: ActionMeaning | None,
    *,
    kind: str,
    scale: float,
    gripper: Gripper | None,
    controller: Controller | None,
) -> AxisPlay:
    """How an axis is played.

    Args:
        axis: its name.
        meaning: what the server says of its number; None if it says nothing.
        kind: `action_kind` of the axis; empty if it is not set.
        scale: `action_scale` of the axis.
        gripper: if the node knows it as one.
        controller: which moves it; None for none, as in a dry run.

    Raises:
        CannotPlayError: the sides do not fit.
    """
    said = meaning or _own(axis, kind, gripper)
    is_gripper = said.interface == "gripper" or gripper is not None
    _compare(said, meaning is not None, kind, is_gripper=is_gripper)
    reading = _reading(said, is_either_way=gripper is not None and gripper.threshold > 0.0)
    _check_controller(said, reading, controller)
    if said.interface == "eef_pose":
        _check_pose(said, controller)
    if is_gripper:
        return _gripper_play(said, scale, gripper)
    return AxisPlay(said, reading, scale)


def _own(axis: str, kind: str, gripper: Gripper | None) -> ActionMeaning:
    """What the node's parameters say of a number of which the server says nothing."""
    if gripper is not None and kind in ("", "position", "gripper"):
        return ActionMeaning(axis, "gripper", "1")
    if not kind:
        raise CannotPlayError(
            "the server does not say what its actions mean (openpi's servers never do); if they "
            "are absolute positions of the joints, set the parameter action_kind to position; "
            "else to velocity, eef_pose, eef_delta or base_twist, for all axes or for each"
        )
    unit, reference = _OWN_UNITS[kind]
    return ActionMeaning(axis, kind, unit, reference)


def _compare(said: ActionMeaning, is_servers: bool, kind: str, *, is_gripper: bool) -> None:
    """Refuse what the node cannot play, and what it was not told to expect."""
    if said.interface not in KINDS or said.unit not in _UNITS.get(said.interface, ()):
        raise CannotPlayError(
            f"the server's action {said} cannot be played: this node plays "
            f"{', '.join(KINDS)} in rad, m, or 1 for a share of the range"
        )
    expected = kind or ("gripper" if is_gripper else "position")
    is_same = said.interface == expected
    if not is_same and is_gripper:
        is_same = {said.interface, expected} <= {"gripper", "position"}
    if not kind and said.interface in ("position", "gripper"):
        is_same = True
    if is_servers and not is_same:
        raise CannotPlayError(
            f"the server's action {said} is not of kind {expected}, which this node expects "
            f"{'by' if kind else 'without'} its parameter action_kind; if the robot is to move by "
            f"it, set action_kind of this axis to {said.interface}"
        )


def _reading(said: ActionMeaning, *, is_either_way: bool) -> Reading:
    if said.interface in ("velocity", "base_twist"):
        reading = Reading.PER_SECOND if said.reference == ABSOLUTE else None
    elif said.interface == "eef_pose":
        reading = Reading.ABSOLUTE if said.reference == ABSOLUTE else None
    elif said.interface == "eef_delta":
        reading = Reading.PER_STEP if said.reference == PREVIOUS_STEP else None
    else:
        reading = {
            ABSOLUTE: Reading.ABSOLUTE,
            OBSERVED_STATE: Reading.FROM_OBSERVED,
            PREVIOUS_STEP: Reading.PER_STEP,
        }.get(said.reference)
    if said.interface == "gripper":
        # which way to go, as in robosuite: the threshold of the node makes it open or closed
        goes = said.reference == PREVIOUS_STEP and is_either_way
        reading = Reading.ABSOLUTE if goes or said.reference == ABSOLUTE else None
    if reading is None:
        hint = (
            "; set gripper.<name>.threshold, to open or close the hand wholly"
            if said.interface == "gripper" and said.reference == PREVIOUS_STEP
            else ""
        )
        raise CannotPlayError(
            f"the server's action {said} cannot be played: this node does not play a "
            f"{said.interface} with the reference {said.reference}{hint}"
        )
    return reading


def _check_controller(said: ActionMeaning, reading: Reading, controller: Controller | None) -> None:
    if controller is None:
        return
    kinds = _CONTROLLERS[said.interface]
    fits = controller.kind in kinds
    if said.interface == "position" and reading.is_rate:
        fits = controller.kind in (*kinds, ControllerKind.VELOCITY)
    if not fits:
        raise CannotPlayError(
            f"the action {said} cannot be played by controller {controller.name} of kind "
            f"{controller.kind.value}; it needs one of kind "
            f"{' or '.join(other.value for other in kinds)}"
        )


def _check_pose(said: ActionMeaning, controller: Controller | None) -> None:
    """Refuse a pose in another frame, or with its rotation written otherwise."""
    if controller is None:
        return
    ours = controller.rotation.value
    if said.rotation not in ("", ours):
        raise CannotPlayError(
            f"the server writes the rotation of {said.name} as {said.rotation}, and controller "
            f"{controller.name} expects {ours}; set controller.{controller.name}.rotation to "
            f"{said.rotation}, and action_columns to its columns"
        )
    if said.frame not in ("", controller.frame):
        raise CannotPlayError(
            f"the server's action {said} counts in frame {said.frame}, and controller "
            f"{controller.name} in {controller.frame}; set controller.{controller.name}.frame, or "
            "the frame in the server's robot file, so that both name the same one"
        )


def _gripper_play(said: ActionMeaning, scale: float, gripper: Gripper | None) -> AxisPlay:
    """A gripper's number, between the policy's and the axis's ends where both are known."""
    if gripper is None or gripper.closed == gripper.open:
        return AxisPlay(said, Reading.ABSOLUTE, scale, is_gripper=True)
    closed, opened = said.closed, said.open
    if math.isnan(closed) or math.isnan(opened):
        closed, opened = gripper.policy_closed, gripper.policy_open
    if closed == opened:
        raise CannotPlayError(
            f"the parameters gripper.{gripper.joint}.closed and open are set, and nobody says the "
            f"policy's numbers for them; set gripper.{gripper.joint}.policy_closed and policy_open"
        )
    slope = (gripper.open - gripper.closed) / (opened - closed)
    threshold = gripper.closed + gripper.threshold * (gripper.open - gripper.closed)
    return AxisPlay(
        said,
        Reading.ABSOLUTE,
        scale=slope,
        offset=gripper.closed - slope * closed,
        is_gripper=True,
        threshold=threshold if gripper.threshold else float("nan"),
        closed=gripper.closed,
        open=gripper.open,
        stays_at=(closed + opened) / 2.0 if said.reference == PREVIOUS_STEP else float("nan"),
    )


_OWN_UNITS = {
    "position": ("rad", ABSOLUTE),
    "gripper": ("1", ABSOLUTE),
    "velocity": ("rad/s", ABSOLUTE),
    "eef_pose": ("m", ABSOLUTE),
    "eef_delta": ("1", PREVIOUS_STEP),
    "base_twist": ("m/s", ABSOLUTE),
}
_UNITS = {
    "position": ("rad", "m", "1"),
    "gripper": ("rad", "m", "1"),
    "velocity": ("rad/s", "m/s", "1"),
    "eef_pose": ("m", "rad", "1"),
    "eef_delta": ("m", "rad", "1"),
    "base_twist": ("m/s", "rad/s"),
}
_POSITION_CONTROLLERS = (
    ControllerKind.JOINT_TRAJECTORY,
    ControllerKind.POSITION,
    ControllerKind.JOINT_STATE,
)
_CONTROLLERS = {
    "position": _POSITION_CONTROLLERS,
    "gripper": (*_POSITION_CONTROLLERS, ControllerKind.GRIPPER),
    "velocity": (*_POSITION_CONTROLLERS, ControllerKind.VELOCITY),
    "eef_pose": (ControllerKind.POSE,),
    "eef_delta": (ControllerKind.TWIST,),
    "base_twist": (ControllerKind.BASE,),
}
