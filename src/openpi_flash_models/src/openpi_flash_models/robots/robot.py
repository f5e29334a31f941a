"""The type of a robot: its cameras, its state and its actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from openpi_flash_models.errors import InferenceConfigError, ObservationError
from openpi_flash_models.model.inputs import IMAGE_SIZE
from openpi_flash_models.robots.action_column import ActionColumn
from openpi_flash_models.transforms.arrays import parse_numbers
from openpi_flash_models.transforms.images import parse_image


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
        """The shape that needs no resizing."""
        side = IMAGE_SIZE
        return (side, side, 3) if self.layout == "hwc" else (3, side, side)


@dataclass(frozen=True)
class StateInput:
    """One part of the state, in the order in which the model reads them.

    Attributes:
        key: its key in a request.
        size: its number of dimensions.
    """

    key: str
    size: int


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
            order of ``state``; None for an action whose zero keeps the robot still (a velocity, an
            offset). None: not known.
        ignored_images: image paths that clients of this robot send and no model reads.
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
        if self.hold is not None:
            self._check_hold(self.hold)
        if self.actions_to_robot is not _unchanged and self.actions_to_model is _unchanged:
            object.__setattr__(self, "actions_to_model", None)  # not known

    @property
    def action_names(self) -> tuple[str, ...]:
        """The name of each action."""
        return tuple(action.name for action in self.actions)

    def _check_hold(self, hold: tuple[int | None, ...]) -> None:
        size = sum(part.size for part in self.state)
        if len(hold) != len(self.action_names):
            raise InferenceConfigError(
                f"robot {self.name}: hold has {len(hold)} entries, expected one for each of the "
                f"{len(self.action_names)} actions"
            )
        for index in hold:
            if index is not None and not 0 <= index < size:
                raise InferenceConfigError(
                    f"robot {self.name}: hold names number {index} of the state, expected 0 to "
                    f"{size - 1}, or nothing"
                )

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
            value = observation.get(part.key)
            if value is None:
                raise ObservationError(part.key, f"missing: {_present(observation)}")
            numbers = parse_numbers(value, part.key)
            if numbers.size != part.size or numbers.ndim > 1:
                raise ObservationError(
                    part.key, f"expected shape [{part.size}], got {list(numbers.shape)}"
                )
            parts.append(numbers.reshape(-1))
        state = np.concatenate(parts)
        # integers would round the result of a conversion
        return state if state.dtype.kind == "f" else state.astype(np.float64)

    def example_observation(self, prompt: str = "do something") -> dict[str, Any]:
        """A request that this robot could send: zeros, of the sizes that need no resizing."""
        observation: dict[str, Any] = {"prompt": prompt}
        for camera in self.cameras:
            branch = observation
            for key in camera.path[:-1]:
                branch = branch.setdefault(key, {})
            branch[camera.path[-1]] = np.zeros(camera.shape, np.uint8)
        for part in self.state:
            observation[part.key] = np.zeros(part.size, np.float32)
        return observation

    def _refuse_unknown_images(self, observation: Mapping[str, Any]) -> None:
        known = {camera.path for camera in self.cameras} | set(self.ignored_images)
        for group in {path[0] for path in known if len(path) > 1}:
            images = observation.get(group)
            if isinstance(images, Mapping):
                for name in images:
                    if (group, name) not in known:
                        names = sorted(path[-1] for path in known)
                        raise ObservationError(
                            f"{group}/{name}", f"no such camera, known: {', '.join(names)}"
                        )


def _lookup(observation: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = observation
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _present(observation: Mapping[str, Any]) -> str:
    return f"the observation has {', '.join(sorted(map(str, observation))) or 'nothing'}"
