"""Flow matching of pi0 and pi0.5, with training-time real-time chunking.

    x = t noise + (1 - t) actions        t = 1 is noise, t = 0 are actions
    loss = (velocity(x, t) - (noise - actions))^2, mean over all dimensions, padding included

Source: ``compute_loss`` of ``openpi/models/pi0.py``, which draws t from 0.001 + 0.999 Beta(1.5, 1).

With real-time chunking the first d actions of a row are given as they are, at t = 0, and have no
loss; d is drawn for each row from 0 to the largest delay (arXiv 2512.05964). The sampler's
``prefix`` method (``openpi_flash_models/jax_models/flow.py``) then knows its frozen actions.

Shapes: K samples, B batch, H horizon, A action width.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from openpi_flash_models.jax_models import suffix
from openpi_flash_models.jax_models.prefix import Prefix
from openpi_flash_training.train.forward import Model


class FlowSample(NamedTuple):
    """What is drawn for one pass of the action expert; or for K of them, with an axis in front.

    Attributes:
        noise: [B, H, A] float32.
        time: [B] float32 in (0, 1].
        delay: [B] int32, actions that are given.
    """

    noise: jax.Array
    time: jax.Array
    delay: jax.Array


def draw_samples(
    key: jax.Array, shape: tuple[int, int, int], count: int, max_delay: int
) -> FlowSample:
    """Draw K samples for actions of a shape [B, H, A].

    One sample without delays is what openpi draws from the same key.
    """
    _, noise_key, time_key = jax.random.split(key, 3)
    lead = (count,) if count > 1 else ()
    noise = jax.random.normal(noise_key, (*lead, *shape))
    time = jax.random.beta(time_key, 1.5, 1, (*lead, shape[0])) * 0.999 + 0.001
    delay_key = jax.random.fold_in(key, 3)
    delay = jax.random.randint(delay_key, (*lead, shape[0]), 0, max_delay + 1)
    if count == 1:
        noise, time, delay = noise[None], time[None], delay[None]
    return FlowSample(noise, time, delay)


def flow_loss(
    model: Model,
    prefix: Prefix,
    state: jax.Array | None,
    actions: jax.Array,
    samples: FlowSample,
    *,
    has_delay: bool = False,
) -> jax.Array:
    """The squared error of the velocity [K, B, H], mean over A; zero for actions that are given.

    Each row is scaled so that its mean over H is the mean over the actions with a loss.

    Args:
        model: which.
        prefix: of images and prompt.
        state: [B, A], for pi0.
        actions: [B, H, A].
        samples: K of them; the prefix is computed once for all.
        has_delay: whether some of the delays may not be zero.
    """
    context = suffix.context_of(model.arch, model.weights, prefix, state)

    def of_sample(sample: FlowSample) -> jax.Array:
        return _errors(model, context, actions, sample, has_delay)

    if len(samples.time) == 1:
        return of_sample(FlowSample(*(part[0] for part in samples)))[None]
    return jax.vmap(of_sample)(samples)


def _errors(
    model: Model,
    context: suffix.Context,
    actions: jax.Array,
    sample: FlowSample,
    has_delay: bool,
) -> jax.Array:
    batch, horizon = actions.shape[:2]
    is_given = jnp.arange(horizon) < sample.delay[:, None]  # [B, H]
    if has_delay:
        # features of time zero, then of each row's time
        times = jnp.concatenate([jnp.zeros(1), sample.time])
        index = jnp.where(is_given, 0, 1 + jnp.arange(batch)[:, None])
        now = jnp.where(is_given, 0.0, sample.time[:, None])[..., None]
    else:
        times, index, now = sample.time, jnp.arange(batch), sample.time[:, None, None]
    features = suffix.time_features(model.arch, model.weights, times)
    x = now * sample.noise + (1 - now) * actions
    velocity = suffix.velocity(
        model.arch, model.weights, context, x, suffix.at_time(features, index)
    )
    errors = jnp.square(velocity - (sample.noise - actions)).mean(-1)
    if not has_delay:
        return errors
    counted = horizon - is_given.sum(1, keepdims=True)
    return jnp.where(is_given, 0.0, errors) * (horizon / counted)
