"""What a server reads of a robot, by its metadata, and whether this node sends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from math import prod
from typing import Any

from openpi_flash_robot.settings.node_settings import ObservationSettings
from openpi_flash_robot.settings.state_inputs import RequestPath, StateInput, StateKind


@dataclass(frozen=True)
class InputMeaning:
    """One input of a request, by the server's word.

    Attributes:
        path: where it is in a request.
        kind: image, joints, pose, vector or text.
        size: how many numbers; 0 where that is not said.
        rotation: how the rotation of a pose is written; empty where that is not said.
        is_required: whether a request without it is refused.
        names: of its numbers; empty where that is not said.
    """

    path: RequestPath
    kind: str
    size: int
    rotation: str
    is_required: bool
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Such as "observation.state (joints, 7)"."""
        size = f", {self.size}" if self.size else ""
        return f"{'.'.join(self.path)} ({self.kind}{size})"


def parse_inputs(value: Any) -> tuple[InputMeaning, ...]:
    """Read `inputs` of a server's metadata; nothing if it is missing.

    Raises:
        ValueError: it makes no sense; the message says what it is.
    """
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"the server's inputs is {value!r}, expected a list of maps")
    return tuple(_input(entry) for entry in value)


def _input(entry: Any) -> InputMeaning:
    path = entry.get("path") if isinstance(entry, Mapping) else None
    if (
        not isinstance(path, (list, tuple))
        or not path
        or not all(isinstance(key, str) for key in path)
        or not isinstance(entry.get("kind"), str)
    ):
        raise ValueError(
            f"an entry of the server's inputs is {entry!r}, expected a map with path and kind"
        )
    shape, rotation = entry.get("shape"), entry.get("rotation")
    is_shape = isinstance(shape, (list, tuple)) and all(isinstance(size, int) for size in shape)
    return InputMeaning(
        path=tuple(path),
        kind=entry["kind"],
        size=prod(shape) if is_shape and shape else 0,
        rotation=rotation if isinstance(rotation, str) else "",
        is_required=entry.get("required") is not False,
        names=_names(entry.get("names")),
    )


def _names(value: Any) -> tuple[str, ...]:
    is_list = isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)
    return tuple(value) if is_list else ()


def objections(
    inputs: Sequence[InputMeaning],
    observation: ObservationSettings,
    columns: Mapping[str, str],
) -> tuple[list[str], list[str]]:
    """What of the inputs this node does not send as the server reads it.

    Args:
        inputs: by the server's word.
        observation: what the node sends.
        columns: the server's name of each of the node's axes; its joints are known by these.

    Returns:
        What keeps the robot from moving, and what people should know all the same.
    """
    refusals: list[str] = []
    warnings: list[str] = []
    cameras = {camera.key for camera in observation.cameras}
    read = {given.path for given in inputs}
    known = {name for given in inputs for name in given.names}
    for given in inputs:
        states = [state for state in observation.states if state.key == given.path]
        if given.kind in ("image", "text"):
            is_sent = given.path in cameras or given.kind == "text"
            problem = "" if is_sent else "no camera.<name>.key is that"
        elif not states:
            problem = "nothing is sent there; add it to states, or set state_key"
        else:
            problem = _state_objection(given, states)
            problem = problem or _order_objection(given, states, columns, known)
        if problem:
            where = refusals if given.is_required else warnings
            where.append(f"the server reads {given}: {problem}")
    if inputs:
        warnings += [
            f"state {state.name} goes to {'.'.join(state.key)}, where the server reads nothing"
            for state in observation.states
            if state.key not in read
        ]
    return refusals, warnings


def _state_objection(given: InputMeaning, states: Sequence[StateInput]) -> str:
    names = " and ".join(state.name for state in states)
    size = sum(state.size for state in states)
    if given.size and size != given.size:
        return f"{names} has {size} numbers"
    for state in states:
        of_joints = state.kind in (StateKind.JOINT_POSITIONS, StateKind.VECTOR)
        if given.kind == "joints" and not of_joints:
            return f"{state.name} is of kind {state.kind.value}"
        is_other_rotation = given.rotation and given.rotation != state.rotation.value
        if state.kind is StateKind.POSE and is_other_rotation:
            return f"its rotation is {given.rotation}, and that of {state.name} is " + (
                f"{state.rotation.value}; set state.{state.name}.rotation to {given.rotation}"
            )
        if given.kind == "pose" and state.kind.is_of_joints and len(states) == 1:
            return f"{state.name} is of kind {state.kind.value}"
    return ""


def _order_objection(
    given: InputMeaning,
    states: Sequence[StateInput],
    columns: Mapping[str, str],
    known: Set[str],
) -> str:
    """Which joint stands where the server reads another one of the known; empty if none does."""
    sent = [
        joint
        for state in states
        for joint in (state.joints if state.kind.is_of_joints else ("",) * state.size)
    ]
    for place, (joint, name) in enumerate(zip(sent, given.names)):  # noqa: B905 - sizes may differ
        ours = columns.get(joint, name)
        if ours != name and ours in known:
            return (
                f"its number {place + 1} is {name}, and this node sends {joint} there, which is "
                f"{ours} by action_columns; put the joints of the state in the server's order"
            )
    return ""
