"""The request that a probe sends, made of what the server's metadata says that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.text.task import KEY as PROMPT_KEY
from openpi_flash_server.contract.example import example_observation
from openpi_flash_server.contract.inputs import parse_inputs

PROMPT = "ping"


class NoObservationError(ValueError):
    """What the server reads is not known here."""


def observation_for(
    metadata: Mapping[str, Any], robot: str | None = None, prompt: str = PROMPT
) -> dict[str, Any]:
    """Black images, zeros and `prompt`, under the keys that the server reads.

    Where the server takes one, a seed of 0 too: a probe does not use up random numbers of its own.

    Args:
        metadata: the server's. `inputs` says what it reads; where that is missing, `robot` does, if
            it is one of the robots that this machine knows.
        robot: of the observation, whatever the metadata says.
        prompt: the task.

    Raises:
        NoObservationError: neither says it; says what to do.
    """
    observation = _observation(metadata, robot, prompt)
    supports = metadata.get("supports")
    if isinstance(supports, list | tuple):
        if "seed" in supports:
            observation["seed"] = 0
        if "subtask" in supports:
            # the planner reads it, whatever the policy reads
            observation.setdefault(PROMPT_KEY, prompt)
    return observation


def _observation(metadata: Mapping[str, Any], robot: str | None, prompt: str) -> dict[str, Any]:
    if robot is None and metadata.get("inputs") is not None:
        try:
            return example_observation(parse_inputs(metadata["inputs"]), prompt)
        except ValueError as error:
            raise NoObservationError(f"the server's metadata: {error}") from None
    name = robot or str(metadata.get("robot", ""))
    # the null policy ignores the observation, and so may any policy that names nothing
    if name == "null":
        return {"prompt": prompt}
    if not name:
        raise NoObservationError("the server does not say what it reads; name a robot with --robot")
    try:
        return observation_of(name, prompt)
    except InferenceConfigError as error:
        raise NoObservationError(f"{error}; add it with --robot-file") from None


def observation_of(robot_name: str, prompt: str = PROMPT) -> dict[str, Any]:
    """A request of a robot with black images and zeros.

    Raises:
        InferenceConfigError: no such robot is known here.
    """
    from openpi_flash_models.robots import get_robot

    return get_robot(robot_name).example_observation(prompt)


def arrays_of(observation: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a request, by their keys joined with `/`."""
    for key, value in observation.items():
        if isinstance(value, Mapping):
            yield from arrays_of(value, f"{above}{key}/")
        elif isinstance(value, np.ndarray):
            yield f"{above}{key}", value
