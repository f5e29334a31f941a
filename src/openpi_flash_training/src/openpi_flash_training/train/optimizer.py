"""AdamW in openpi's order, the schedules of its learning rate, and the running mean of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

Params = Any


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimiser; the defaults are openpi's.

    Attributes:
        peak_rate: the largest learning rate.
        warmup_steps: steps in which the rate rises, from ``peak_rate / (warmup_steps + 1)``.
        decay_steps: steps after which a cosine has reached ``end_rate``, with those of the warm-up;
            or the time scale of the inverse root.
        end_rate: the rate after that.
        schedule: how the rate falls: ``cosine``, ``inverse_root`` or ``constant`` (which has no
            warm-up, either).
        beta1: decay of Adam's first moment.
        beta2: decay of its second moment.
        epsilon: Adam's, outside of the root.
        weight_decay: of all trainable leaves, biases and norms included.
        clip_norm: largest global norm of the trainable leaves' gradient.
        ema_decay: of the running mean of the parameters; None: no mean is kept.
    """

    peak_rate: float = 2.5e-5
    warmup_steps: int = 1000
    decay_steps: int = 30_000
    end_rate: float = 2.5e-6
    schedule: Literal["cosine", "inverse_root", "constant"] = "cosine"
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 1e-10
    clip_norm: float = 1.0
    ema_decay: float | None = 0.99


def learning_rate(settings: OptimizerSettings) -> optax.Schedule:
    """The learning rate of the update after ``count`` updates."""
    peak, warmup = settings.peak_rate, settings.warmup_steps
    first = peak / (warmup + 1)
    match settings.schedule:
        case "constant":
            return optax.constant_schedule(peak)
        case "cosine":
            return optax.warmup_cosine_decay_schedule(
                first, peak, warmup, settings.decay_steps, settings.end_rate
            )
        case "inverse_root":
            scale = settings.decay_steps

            def fall(count: Any) -> Any:
                return peak / jnp.sqrt((scale + count) / scale)

            return optax.join_schedules(
                [optax.linear_schedule(first, peak, warmup), fall], [warmup]
            )


def make_optimizer(
    settings: OptimizerSettings, trainable_mask: Mapping[str, Any] | None = None
) -> optax.GradientTransformation:
    """Clip by the global norm -> Adam -> weight decay -> learning rate.

    ``init`` and ``update`` take trees of all parameters, or those of ``lora.split`` with None in
    the place of frozen leaves; the state holds trainable leaves only, in openpi's places:
    ``(EmptyState, (ScaleByAdamState(count, mu, nu), EmptyState, ScaleByScheduleState(count)))``.
    Updates of frozen leaves are zero, or None.

    Args:
        settings: the optimiser.
        trainable_mask: of ``lora.trainable``; None: every leaf is trained.
    """
    plain = optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(
            learning_rate(settings),
            b1=settings.beta1,
            b2=settings.beta2,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
        ),
    )
    if trainable_mask is None:
        return plain

    def trained(tree: Any) -> Any:
        return jax.tree.map(lambda kept, leaf: leaf if kept else None, trainable_mask, tree)

    def init(params: Any) -> Any:
        return plain.init(trained(params))

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        kept = None if params is None else trained(params)
        made, state = plain.update(trained(updates), state, kept)
        return jax.tree.map(_or_zero, made, updates, is_leaf=lambda leaf: leaf is None), state

    return optax.GradientTransformation(init, update)


def _or_zero(made: Any, given: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, given) if made is None else made


def update_ema(ema: Params, params: Params, decay: float) -> Params:
    """``decay * ema + (1 - decay) * params`` of every leaf. A run starts with its parameters."""
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, ema, params)
