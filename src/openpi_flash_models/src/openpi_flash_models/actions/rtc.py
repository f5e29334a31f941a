"""Real-time chunking (RTC): a new chunk that continues the chunk that the robot is playing.

Source: Black et al. 2025, "Real-Time Execution of Action Chunking Flow Policies" (arXiv
2506.07339). While the model computes, the robot plays the next ``delay`` steps of the previous
chunk: these are frozen. The steps after them that both chunks cover are pulled towards the
previous chunk, later steps less; the last ``execution_horizon`` steps are free. Needs no model
framework.

Shapes: H horizon, A action width of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Schedule = Literal["exp", "linear", "ones", "zeros"]
Method = Literal["identity", "vjp", "prefix"]


@dataclass(frozen=True, eq=False)
class RtcControls:
    """What a request says about the chunk that its robot is playing.

    Attributes:
        previous_actions: [n, D] in robot units, the rest of that chunk from the time of this
            observation on; step i is for the same time as step i of the new chunk.
        delay: steps that will have been played when the new chunk arrives; they cannot change.
        execution_horizon: steps of the new chunk that are played before the next one; None: the
            steps that the previous chunk does not cover.
        is_prefix: whether the frozen steps are given to the model as known (``prefix``), by a
            checkpoint that was trained with it, whatever the method of ``RtcOptions``.
    """

    previous_actions: np.ndarray
    delay: int
    execution_horizon: int | None = None
    is_prefix: bool = False


@dataclass(frozen=True)
class RtcOptions:
    """How the previous chunk guides the new one.

    Attributes:
        method: ``identity`` pulls each action by its own error, and costs nothing; ``vjp`` pulls
            by the gradient of the error through the model, as in the paper, for about a third
            more time; ``prefix`` gives the frozen steps to the model as known, for checkpoints
            that were trained with it (arXiv 2512.05964).
        schedule: how the weights fall over the steps that are not frozen.
        max_guidance: the largest guidance weight; beta in section 4.1 of the paper. As many as
            there are denoising steps: the last step closes ``max_guidance / steps`` of what is
            left between a frozen step and the previous chunk. The paper's 5 are for 5 steps.
    """

    method: Method = "identity"
    schedule: Schedule = "exp"
    max_guidance: float = 10.0


DEFAULT_RTC = RtcOptions()


@dataclass(frozen=True, eq=False)
class Guidance:
    """The previous chunks of a batch, in the form that a model takes.

    Attributes:
        target: [B, H, A] float32, normalised; zeros where unknown.
        weight: [B, H, A] float32 in [0, 1]; zero where the target is unknown.
        frozen: [B, H] bool, steps that the robot plays before the new chunk arrives.
        is_prefix: whether the method is ``prefix``, whatever that of ``RtcOptions``.
    """

    target: np.ndarray
    weight: np.ndarray
    frozen: np.ndarray
    is_prefix: bool = False


def prefix_weights(start: int, end: int, total: int, schedule: Schedule) -> np.ndarray:
    """The guidance weight of each step [total]: 1 before ``start``, falling until ``end``, then 0.

    Source: ``get_prefix_weights`` in ``src/model.py`` of
    Physical-Intelligence/real-time-chunking-kinetix.

    Args:
        start: number of frozen steps; at most ``end``.
        end: number of steps that the previous chunk guides.
        total: number of steps in the chunk.
        schedule: ``linear``; ``exp``, which is below it; ``ones`` is 1 up to ``end``; ``zeros``
            is 0 from ``start`` on.
    """
    start = min(start, end)
    step = np.arange(total)
    if schedule == "ones":
        weights = np.ones(total)
    elif schedule == "zeros":
        weights = (step < start).astype(np.float64)
    else:
        weights = np.clip((start - 1 - step) / (end - start + 1) + 1, 0.0, 1.0)
        if schedule == "exp":
            curved = weights * np.expm1(weights) / np.expm1(1.0)
            # vectorised and scalar expm1 may round differently: a frozen step keeps exactly 1
            weights = np.where(weights < 1.0, np.minimum(curved, 1.0), 1.0)
    return np.where(step < end, weights, 0.0)


def no_guidance(batch: int, horizon: int, action_dim: int) -> Guidance:
    """Guidance without a previous chunk: every weight is zero."""
    zeros = np.zeros((batch, horizon, action_dim), np.float32)
    return Guidance(zeros, zeros, np.zeros((batch, horizon), bool))


def guidance_of(
    known: np.ndarray,
    controls: RtcControls,
    schedule: Schedule,
    *,
    horizon: int,
    action_dim: int,
    grippers: Sequence[int] = (),
) -> Guidance:
    """The guidance of one previous chunk, as a batch of one.

    Args:
        known: [n, D] float, the previous actions in the model's normalised space.
        controls: of the request, already checked.
        schedule: of the weights.
        horizon: H.
        action_dim: A; dimensions that the robot does not have are not pulled.
        grippers: numbers in D of actions that are not pulled either. Half open is no way between
            open and closed, and a hand that has missed would go on being closed.
    """
    steps, width = min(len(known), horizon), known.shape[1]
    executed = controls.execution_horizon
    end = steps if executed is None else max(0, min(steps, horizon - executed))
    start = min(controls.delay, steps)
    end = max(end, start)
    target = np.zeros((1, horizon, action_dim), np.float32)
    target[0, :steps, :width] = known[:steps]
    weight = np.zeros_like(target)
    weight[0, :, :width] = prefix_weights(start, end, horizon, schedule)[:, None]
    weight[0, :, list(grippers)] = 0.0
    frozen = np.arange(horizon)[None] < start
    return Guidance(target, weight, frozen, is_prefix=controls.is_prefix)
