"""Real-time chunking: a new chunk that goes on from the one that is being played.

While the model computes, the robot plays the first ``delay`` steps of what it has: these are
frozen. Further steps that both chunks know are pulled towards the old one, the less the later they
are; the last ``execution_horizon`` steps are free. Needs no model framework.

Shapes: H horizon, A action width of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Schedule = Literal["exp", "linear", "ones", "zeros"]
Method = Literal["identity", "vjp", "prefix"]


@dataclass(frozen=True, eq=False)
class RtcControls:
    """What a request says about the chunk that its robot is playing.

    Attributes:
        previous_actions: [n, D] in robot units, what is left of that chunk from the time of this
            observation on; step i is the one that the new chunk's step i is for.
        delay: steps that will have been played when the new chunk arrives; they cannot change.
        execution_horizon: steps of the new chunk that are played before the next one; None is
            all that the old chunk says nothing about.
    """

    previous_actions: np.ndarray
    delay: int
    execution_horizon: int | None = None


@dataclass(frozen=True)
class RtcOptions:
    """How a policy goes on from an earlier chunk.

    Attributes:
        method: ``identity`` pulls each action by its own error, and costs nothing; ``vjp`` pulls
            by the gradient of the error through the model, as the paper has it, for about a third
            more time; ``prefix`` gives the frozen steps to the model as known, for checkpoints
            that were trained with it.
        schedule: how the weights fall over the steps that are not frozen.
        max_guidance: the largest weight of the pull; beta in Black et al. 2025, "Real-Time
            Execution of Action Chunking Flow Policies" (arXiv 2506.07339), section 4.1.
    """

    method: Method = "identity"
    schedule: Schedule = "exp"
    max_guidance: float = 5.0


DEFAULT_RTC = RtcOptions()


@dataclass(frozen=True, eq=False)
class Guidance:
    """The earlier chunks of a batch, as a model takes them.

    Attributes:
        target: [B, H, A] float32, normalised; zeros where unknown.
        weight: [B, H, A] float32 in [0, 1], the pull; zero where unknown.
        frozen: [B, H] bool, steps that are known for certain.
    """

    target: np.ndarray
    weight: np.ndarray
    frozen: np.ndarray


def prefix_weights(start: int, end: int, total: int, schedule: Schedule) -> np.ndarray:
    """The pull of each step [total]: 1 before ``start``, falling until ``end``, then 0.

    Args:
        start: frozen steps; not more than ``end`` count.
        end: steps that the old chunk has a say in.
        total: steps in all.
        schedule: ``linear``; ``exp``, which is below it; ``ones`` until the end, ``zeros`` from
            the start on.
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
    """No earlier chunk."""
    zeros = np.zeros((batch, horizon, action_dim), np.float32)
    return Guidance(zeros, zeros, np.zeros((batch, horizon), bool))


def guidance_of(
    known: np.ndarray,
    controls: RtcControls,
    schedule: Schedule,
    *,
    horizon: int,
    action_dim: int,
) -> Guidance:
    """One earlier chunk, as a batch of one.

    Args:
        known: [n, D] float, the previous actions in the model's normalised space.
        controls: of the request, already checked.
        schedule: of the weights.
        horizon: H.
        action_dim: A; dimensions that the robot does not have are not pulled.
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
    return Guidance(target, weight, np.arange(horizon)[None] < start)
