"""Denoising a chunk, alone or as the continuation of one that is being played.

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
    """Denoise a chunk that goes on from an earlier one.

    Args:
        model: pi0 or pi0.5.
        observation: a batch.
        noise: [B, H, A] float32.
        schedule: of the steps.
        pull: what the earlier chunk wants.
        method: how it has its say (:class:`openpi_flash_models.actions.rtc.RtcOptions`).
        max_guidance: the largest weight of the pull; beta in Black et al. 2025, "Real-Time
            Execution of Action Chunking Flow Policies" (arXiv 2506.07339), section 4.1.

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
    """How much of the pull goes into the velocity at ``time`` in (0, 1]; without bound at 1."""
    played = 1.0 - time
    if time * played < 1e-12:
        return most
    return min(most, (time**2 + played**2) / (time * played))


def _pull_through(
    flow: Callable[[Tensor], Tensor], x: Tensor, time: float, pull: Pull
) -> tuple[Tensor, Tensor]:
    """The velocity, and the error of the clean chunk taken back through the model."""
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
    # What the step writes is needed on the way back: each layer's slots stand alone for it.
    caches = tuple(cache.clone() for cache in prefix.caches)
    return model.velocity(prefix._replace(caches=caches), x, now)


def _denoise_behind_frozen(
    model: FlowModel, prefix: Prefix, noise: Tensor, schedule: Schedule, pull: Pull
) -> Tensor:
    """For models that were trained with known first actions: these keep the features of time 0."""
    known = pull.frozen[..., None]
    known_rows = known.flatten(0, 1)
    x = torch.where(known, pull.target, noise)
    for now in schedule.steps:
        velocity = model.velocity(prefix, x, _mix(known_rows, schedule.clean, now))
        x = x + schedule.step_size * torch.where(known, 0.0, velocity)
    return x


def _mix(known: Tensor, clean: TimeFeatures, now: TimeFeatures) -> TimeFeatures:
    """Features per action, [B * H, D]: of time 0 where it is ``known`` [B * H, 1]."""
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
