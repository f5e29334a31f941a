"""Denoises a chunk, alone or guided by the previous chunk.

Sources: pi0 (arXiv 2410.24164, section IV) for flow matching, arXiv 2506.07339 for the guidance;
the formulas are in ``jax_models/flow.py``.

Shapes: B batch, H horizon, A action width of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from openpi_flash_models.actions.rtc import Method
from openpi_flash_models.torch_models import gemma
from openpi_flash_models.torch_models.flow import (
    FlowModel,
    Observation,
    Prefix,
    Schedule,
    TimeFeatures,
)


class Pull(NamedTuple):
    """A batch's previous chunks on the device (:class:`openpi_flash_models.actions.rtc.Guidance`).

    Attributes:
        target: [B, H, A] float32, normalised.
        weight: [B, H, A] float32 in [0, 1].
        frozen: [B, H] bool.
    """

    target: Tensor
    weight: Tensor
    frozen: Tensor


def sample_actions(
    model: FlowModel, observation: Observation, noise: Tensor, schedule: Schedule
) -> Tensor:
    """Denoise a chunk: ``noise`` [B, H, A] float32 to normalised actions of that shape."""
    prefix = model.run_prefix(observation, noise.shape[1])
    x = noise
    for now in schedule.steps:
        x = torch.add(x, model.velocity(prefix, x, now), alpha=schedule.step_size)
    return x


def continue_actions(
    model: FlowModel,
    observation: Observation,
    noise: Tensor,
    schedule: Schedule,
    pull: Pull,
    *,
    method: Method,
    max_guidance: float,
) -> Tensor:
    """Denoise a chunk that continues the previous one.

    Args:
        model: pi0 or pi0.5.
        observation: a batch.
        noise: [B, H, A] float32.
        schedule: of the steps.
        pull: the previous chunks and their weights.
        method: how they guide the new ones (:class:`openpi_flash_models.actions.rtc.RtcOptions`).
        max_guidance: the largest guidance weight; beta in arXiv 2506.07339, section 4.1.

    Returns:
        Normalised actions [B, H, A] float32.
    """
    prefix = model.run_prefix(observation, noise.shape[1])
    if method == "prefix":
        return _denoise_behind_frozen(model, prefix, noise, schedule, pull)
    x = noise
    for time, now in zip(schedule.times, schedule.steps, strict=True):
        if method == "vjp":

            def flow(x: Tensor, now: TimeFeatures = now) -> Tensor:
                return _velocity_with_a_way_back(model, prefix, x, now)

            velocity, towards = _pull_through(flow, x, time, pull)
        else:
            velocity = model.velocity(prefix, x, now)
            towards = pull.weight * (pull.target - (x - time * velocity))
        velocity = velocity - guidance_strength(time, max_guidance) * towards
        x = x + schedule.step_size * velocity
    return x


def guidance_strength(time: float, most: float) -> float:
    """The guidance weight at ``time`` in (0, 1] (arXiv 2506.07339, section 4.1); up to ``most``."""
    played = 1.0 - time
    if time * played < 1e-12:
        return most
    return min(most, (time**2 + played**2) / (time * played))


def _pull_through(
    flow: Callable[[Tensor], Tensor], x: Tensor, time: float, pull: Pull
) -> tuple[Tensor, Tensor]:
    """The velocity, and the vector-Jacobian product of the clean chunk's error."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        velocity = flow(x)
        clean = x - time * velocity
        error = (pull.weight * (pull.target - clean)).detach()
        (towards,) = torch.autograd.grad(clean, x, error)
    return velocity.detach(), towards


def _velocity_with_a_way_back(
    model: FlowModel, prefix: Prefix, x: Tensor, now: TimeFeatures
) -> Tensor:
    # The backward pass needs the slots that a step writes, so each step has a cache of its own.
    caches = tuple(cache.clone() for cache in prefix.caches)
    return model.velocity(prefix._replace(caches=caches), x, now)


def _denoise_behind_frozen(
    model: FlowModel, prefix: Prefix, noise: Tensor, schedule: Schedule, pull: Pull
) -> Tensor:
    """For models trained with known first actions (arXiv 2512.05964), which have time 0."""
    known = pull.frozen[..., None]
    known_rows = known.flatten(0, 1)
    x = torch.where(known, pull.target, noise)
    for now in schedule.steps:
        velocity = model.velocity(prefix, x, _mix(known_rows, schedule.clean, now))
        x = x + schedule.step_size * torch.where(known, 0.0, velocity)
    return x


def _mix(known: Tensor, clean: TimeFeatures, now: TimeFeatures) -> TimeFeatures:
    """Features per action, [B * H, D]: those of time 0 for ``known`` [B * H, 1] actions."""
    if clean.time_part is not None and now.time_part is not None:
        return TimeFeatures(time_part=torch.where(known, clean.time_part, now.time_part))
    pairs = zip(clean.modulations, now.modulations, strict=True)
    return TimeFeatures(
        tuple(
            gemma.Modulation(
                *(torch.where(known, a, b) for a, b in zip(before, after, strict=True))
            )
            for before, after in pairs
        )
    )
