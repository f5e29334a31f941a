"""A request that a policy can read, made of what it says that it reads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from openpi_flash_models.robots.robot_input import RobotInput


def example_observation(inputs: Sequence[RobotInput], prompt: str) -> dict[str, Any]:
    """Black images, zeros, rotations by nothing, and the prompt, under the keys of `inputs`.

    Images are uint8, numbers float32.
    """
    observation: dict[str, Any] = {}
    for given in inputs:
        branch = observation
        for key in given.path[:-1]:
            branch = branch.setdefault(key, {})
        branch[given.path[-1]] = _value(given, prompt)
    return observation


def _value(given: RobotInput, prompt: str) -> Any:
    if given.kind == "text":
        return prompt
    if given.kind == "image":
        return np.zeros(given.shape, np.uint8)
    numbers = np.zeros(given.shape, np.float32)
    identity = _IDENTITIES.get(given.rotation)
    # a quaternion of zeros is no rotation, and a policy may divide by its length
    if identity is not None and len(identity) <= given.shape[-1]:
        numbers[..., -len(identity) :] = identity
    return numbers


_IDENTITIES = {"quat_xyzw": (0, 0, 0, 1), "rot6d": (1, 0, 0, 0, 1, 0)}
