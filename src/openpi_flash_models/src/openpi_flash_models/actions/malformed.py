"""What a policy answers when pi0-FAST generates tokens that are no chunk of actions.

    error   an error; nothing moves. The default.
    hold    the robot stays where it was observed: absolute actions repeat the state, relative ones
            and velocities are zero
    zeros   zeros in the model's scaled space, as openpi answers (``openpi/models/tokenizer.py``,
            ``FASTTokenizer.extract_actions``): the robot moves to the middle of the training data

An answer of ``hold`` or ``zeros`` carries a ``Substitute`` with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.robots.robot import Robot

MalformedTokens = Literal["error", "hold", "zeros"]


@dataclass(frozen=True)
class Substitute:
    """Why a chunk is not the model's output.

    Attributes:
        kind: what the chunk is instead.
        reason: what was wrong with the model's tokens.
    """

    kind: Literal["hold", "zeros"]
    reason: str


def check_malformed_tokens(wanted: MalformedTokens, robot: Robot) -> None:
    """Refuse a choice that does not exist, or that the robot cannot follow.

    Raises:
        InferenceConfigError: says which.
    """
    if wanted not in get_args(MalformedTokens):
        known = ", ".join(get_args(MalformedTokens))
        raise InferenceConfigError(f"malformed_tokens is {wanted!r}, expected one of {known}")
    if wanted == "hold" and robot.hold is None:
        raise InferenceConfigError(
            f"malformed_tokens is hold, and the robot {robot.name} does not say which number of "
            "the state each action commands; add hold to it (docs/robots.md)"
        )


def held_actions(robot: Robot, state: np.ndarray, horizon: int) -> np.ndarray:
    """A chunk [H, D] that keeps a robot where it is.

    Args:
        robot: has ``hold``.
        state: [S] as the request had it.
        horizon: H.
    """
    assert robot.hold is not None, "checked when the policy was made"
    one = [0.0 if index is None else float(state[index]) for index in robot.hold]
    return np.tile(np.asarray(one, np.float64), (horizon, 1))
