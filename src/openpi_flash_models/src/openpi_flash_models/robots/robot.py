"""The type of a robot: its cameras, its state and its actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openpi_flash_models.errors import InferenceConfigError, ObservationError
from openpi_flash_models.robots.action_column import ActionColumn
from openpi_flash_models.robots.robot_input import PROMPT, CameraInput, RobotInput, StateInput
from openpi_flash_models.transforms.arrays import parse_numbers
from openpi_flash_models.transforms.images import parse_image

__all__ = ["CameraInput", "Robot", "StateInput"]


def _unchanged(values: np.ndarray) -> np.ndarray:
    return values


@dataclass(frozen=True)
class Robot:
    """A robot: where a request has its cameras and state, and what the actions are.

    Attributes:
        name: as configs call it.
        cameras: in the order of ``inputs.CAMERAS``.
        state: its parts.
        actions: what each number of an action means; the model's further dimensions are dropped.
        control_hz: rate of the actions.
        state_to_model: robot's state [S] -> the space the model was trained in.
        actions_to_robot: the model's actions [H, A], A = len(actions), -> the robot's.
        actions_to_model: the inverse of ``actions_to_robot``, for real-time chunking; None: not
            known.
        hold: for each action the number of the state [S] that it commands, counted from 0 in the
            order of ``state``, in the action's unit; None for an action whose zero keeps the robot
            still (a velocity, an offset). None: not known.
        ignored_images: image paths that clients of this robot send and no model reads.

    Raises:
        InferenceConfigError: two actions have one name, or ``hold`` would move the robot.
    """

    name: str
    cameras: tuple[CameraInput, ...]
    state: tuple[StateInput, ...]
    actions: tuple[ActionColumn, ...]
    control_hz: float
    state_to_model: Callable[[np.ndarray], np.ndarray] = _unchanged
    actions_to_robot: Callable[[np.ndarray], np.ndarray] = _unchanged
    actions_to_model: Callable[[np.ndarray], np.ndarray] | None = _unchanged
    ignored_images: tuple[tuple[str, ...], ...] = ()
    hold: tuple[int | None, ...] | None = None

    def __post_init__(self) -> None:
        self._check_names()
        if self.hold is not None:
            self._check_hold(self.hold)
        if self.actions_to_robot is not _unchanged and self.actions_to_model is _unchanged:
            object.__setattr__(self, "actions_to_model", None)  # not known

    @property
    def action_names(self) -> tuple[str, ...]:
        """The name of each action."""
        return tuple(action.name for action in self.actions)

    @property
    def grippers(self) -> tuple[int, ...]:
        """The numbers of the actions that open and close a hand."""
        return tuple(i for i, action in enumerate(self.actions) if action.interface == "gripper")

    @property
    def inputs(self) -> tuple[RobotInput, ...]:
        """What a request holds: the cameras, the state in the model's order, and the task."""
        cameras = (camera.described for camera in self.cameras)
        return (*cameras, *(part.described for part in self.state), PROMPT)

    def _check_names(self) -> None:
        names = self.action_names
        for name in names:
            if names.count(name) > 1:
                raise InferenceConfigError(f"robot {self.name}: two actions are named {name}")

    def _check_hold(self, hold: tuple[int | None, ...]) -> None:
        if len(hold) != len(self.actions):
            raise InferenceConfigError(
                f"robot {self.name}: hold has {len(hold)} entries, expected one for each of the "
                f"{len(self.actions)} actions"
            )
        units = [unit for part in self.state for unit in (part.units or ("",) * part.size)]
        for index, action in zip(hold, self.actions, strict=True):
            if problem := _hold_problem(index, action, units):
                raise InferenceConfigError(f"robot {self.name}: hold {problem}")

    def read_images(self, observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Images of a request by the model's slot, uint8 [H, W, 3] of any size.

        Raises:
            ObservationError: a required one is missing, one is unknown, or one is no image.
        """
        self._refuse_unknown_images(observation)
        images = {}
        for camera in self.cameras:
            value = _lookup(observation, camera.path)
            if value is not None:
                images[camera.slot] = parse_image(value, "/".join(camera.path))
            elif camera.required:
                raise ObservationError("/".join(camera.path), f"missing: {_present(observation)}")
        return images

    def read_state(self, observation: Mapping[str, Any]) -> np.ndarray:
        """State of a request [S] in the model's space, not normalised.

        Raises:
            ObservationError: as :meth:`measured_state`.
        """
        return self.state_to_model(self.measured_state(observation))

    def measured_state(self, observation: Mapping[str, Any]) -> np.ndarray:
        """State of a request [S] in the robot's own units.

        Raises:
            ObservationError: a part is missing, of another size, or not finite.
        """
        parts = []
        for part in self.state:
            value = _lookup(observation, part.path)
            if value is None:
                raise ObservationError(part.name, f"missing: {_present(observation)}")
            numbers = parse_numbers(value, part.name)
            if numbers.size != part.size or numbers.ndim > 1:
                raise ObservationError(
                    part.name, f"expected shape [{part.size}], got {list(numbers.shape)}"
                )
            parts.append(numbers.reshape(-1))
        state = np.concatenate(parts)
        # integers would round the result of a conversion
        return state if state.dtype.kind == "f" else state.astype(np.float64)

    def example_observation(self, prompt: str = "do something") -> dict[str, Any]:
        """A request that this robot could send: zeros, of the sizes that need no resizing."""
        observation: dict[str, Any] = {"prompt": prompt}
        for camera in self.cameras:
            _place(observation, camera.path, np.zeros(camera.shape, np.uint8))
        for part in self.state:
            _place(observation, part.path, np.zeros(part.size, np.float32))
        return observation

    def _refuse_unknown_images(self, observation: Mapping[str, Any]) -> None:
        known = {camera.path for camera in self.cameras} | set(self.ignored_images)
        others = {part.path[:2] for part in self.state}
        for group in {path[0] for path in known if len(path) > 1}:
            images = observation.get(group)
            if isinstance(images, Mapping):
                for name in images:
                    if (group, name) not in known | others:
                        names = sorted(path[-1] for path in known)
                        raise ObservationError(
                            f"{group}/{name}", f"no such camera, known: {', '.join(names)}"
                        )


def _hold_problem(index: int | None, action: ActionColumn, units: Sequence[str]) -> str:
    """Why this number of the state does not hold this action; empty if it does."""
    if index is None:
        if action.stays_at_zero:
            return ""
        return (
            f"has nothing for {action.name}, which zero would move; name the number of the state "
            "that it commands"
        )
    if not 0 <= index < len(units):
        return f"names number {index} of the state, expected 0 to {len(units) - 1}, or nothing"
    if action.stays_at_zero:
        return f"names number {index} of the state for {action.name}, which zero holds"
    if units[index] not in ("", action.unit):
        return (
            f"names number {index} of the state, in {units[index]}, for {action.name}, in "
            f"{action.unit}"
        )
    return ""


def _lookup(observation: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = observation
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _place(observation: dict[str, Any], path: tuple[str, ...], value: np.ndarray) -> None:
    branch = observation
    for key in path[:-1]:
        branch = branch.setdefault(key, {})
    branch[path[-1]] = value


def _present(observation: Mapping[str, Any]) -> str:
    return f"the observation has {', '.join(sorted(map(str, observation))) or 'nothing'}"
