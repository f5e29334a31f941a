"""Flow matching: noise to a chunk of actions, as one compiled program.

Source: pi0 (arXiv 2410.24164, section IV), with the time of openpi's ``models/pi0.py``, which is
1 minus the paper's: it runs from 1 (noise) to 0 (actions), ``x += dt * velocity(x, t)`` with
``dt < 0``. The previous chunk can guide the new one (``actions/rtc.py`` has the methods).

Shapes: B batch, H horizon, A action width of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from openpi_flash_models.actions.rtc import Guidance, Method
from openpi_flash_models.jax_models import suffix
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.prefix import embed_prefix, run_prefix
from openpi_flash_models.model.inputs import ModelInputs

Params = Mapping[str, Any]

STEPS_PER_BLOCK = 10
"""Flow times whose features are made together; the usual number of steps."""

jax.tree_util.register_dataclass(
    Guidance, data_fields=["target", "weight", "frozen"], meta_fields=["is_prefix"]
)


class Schedule(NamedTuple):
    """The flow times of a number of steps, and what the model makes of them alone.

    Attributes:
        times: [F] float32, of the steps.
        features: of these times, and of time 0, at which known actions are: F + 1.
    """

    times: jax.Array
    features: suffix.TimeFeatures


@partial(jax.jit, static_argnames=("arch", "num_steps"))
def make_schedule(arch: Arch, weights: Params, num_steps: int) -> Schedule:
    """What all calls of a number of steps share."""
    times = jnp.asarray(_times(num_steps))
    features = suffix.time_features(arch, weights, jnp.append(times, 0.0))
    return Schedule(times, features)


def _times(num_steps: int) -> np.ndarray:
    # Time is accumulated in float32, as in openpi's sampler: 1, 0.9, 0.79999995, ...
    times = np.full(num_steps, np.float32(-1.0) / np.float32(num_steps), np.float32)
    times[0] = 1.0
    return np.cumsum(times, dtype=np.float32)


def _sample_actions(
    arch: Arch,
    weights: Params,
    inputs: ModelInputs,
    *,
    noise: jax.Array,
    num_steps: jax.Array | None,
    guidance: Guidance,
    max_guidance: jax.Array,
    method: Method = "identity",
    schedule: Schedule | None = None,
) -> jax.Array:
    """Denoise a chunk: the whole call.

    Args:
        arch: sizes and switches.
        weights: of the model.
        inputs: a batch of observations.
        noise: [B, H, A] float32, standard normal.
        num_steps: int scalar; traced, so that any number of steps runs the same program. None:
            those of ``schedule``.
        guidance: the previous chunks; weights of zero without one.
        max_guidance: float scalar, see ``RtcOptions``.
        method: how the previous chunk guides the new one, unless ``guidance`` says that its
            frozen steps are known.
        schedule: of the steps. Their number is the program's own, so that it runs without asking
            the host for the next step.

    Returns:
        Normalised actions [B, H, A], float32.
    """
    # the kernels have no gradient
    arch_of_steps = arch._replace(kernels=None) if method == "vjp" else arch
    tokens, valid = embed_prefix(arch, weights, inputs)
    no_output = jnp.zeros((tokens.shape[0], 0), jnp.int32)
    _, prefix = run_prefix(arch, weights, tokens, valid, no_output)
    context = suffix.context_of(arch, weights, prefix, inputs.state)
    flow = partial(suffix.velocity, arch_of_steps, weights, context)
    features = partial(suffix.time_features, arch, weights)
    if schedule is not None:
        denoise = partial(_denoise_by, schedule)
    else:
        assert num_steps is not None, "without a schedule the number of steps is needed"
        denoise = partial(_denoise, features, arch, num_steps)
    if method == "prefix" or guidance.is_prefix:
        frozen = jnp.asarray(guidance.frozen)
        if schedule is None:
            clean = suffix.at_time(features(jnp.zeros(1)), jnp.int32(0))
        else:
            clean = suffix.at_time(schedule.features, jnp.int32(schedule.times.shape[0]))

        def known(x: jax.Array, _: jax.Array, now: suffix.TimeFeatures) -> jax.Array:
            v = flow(x, suffix.where(frozen, clean, now))
            return jnp.where(frozen[..., None], 0.0, v)  # frozen actions do not move

        start = jnp.where(frozen[..., None], guidance.target, noise)
        return denoise(known, start)

    def guided(x: jax.Array, time: jax.Array, now: suffix.TimeFeatures) -> jax.Array:
        return guided_velocity(
            lambda x: flow(x, now), x, time, guidance, max_guidance, full=method == "vjp"
        )

    return denoise(guided, noise)


def guided_velocity(
    flow: Callable[[jax.Array], jax.Array],
    x: jax.Array,
    time: jax.Array,
    guidance: Guidance,
    max_guidance: jax.Array | float,
    *,
    full: bool,
) -> jax.Array:
    """The velocity, guided towards the previous chunk.

        clean = x - t v(x)                    this step's estimate of the final actions
        error = weight * (target - clean)
        v'    = v - w J^T error               J = d clean / d x, or 1 if not ``full``
        w     = min(max_guidance, (t^2 + (1 - t)^2) / (t (1 - t)))

    Source: Black et al. 2025, "Real-Time Execution of Action Chunking Flow Policies" (arXiv
    2506.07339), section 4.1, with t for 1 minus the paper's time. J = 1 is LeRobot's variant
    (``policies/rtc/modeling_rtc.py``).

    Args:
        flow: ``v``.
        x: [B, H, A].
        time: ``t``, scalar in (0, 1].
        guidance: target and weight.
        max_guidance: the largest guidance weight; the paper's beta.
        full: with the true J, which costs a backward pass through the model.
    """

    def clean(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        v = flow(x)
        return x - time * v, v

    if full:
        end, pull_back, v = jax.vjp(clean, x, has_aux=True)
        (pull,) = pull_back(guidance.weight * (guidance.target - end))
    else:
        end, v = clean(x)
        pull = guidance.weight * (guidance.target - end)
    played = 1.0 - time
    safe = jnp.maximum(time * played, 1e-12)  # at t = 1 the quotient is infinite
    strength = jnp.minimum(max_guidance, (time**2 + played**2) / safe)
    return v - strength * pull


_STATIC = ("arch", "method")
ONE_GRAPH: dict[str, str | bool] = {
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,"
    "DYNAMIC_SLICE_FUSION,WHILE",
    "xla_gpu_command_buffer_unroll_loops": True,
}
"""XLA's options with which a loop of known length is written out into the CUDA graph around it."""

sample_actions = jax.jit(_sample_actions, static_argnames=_STATIC)
"""``_sample_actions``, compiled."""
sample_as_one_graph = jax.jit(
    _sample_actions, static_argnames=_STATIC, compiler_options=dict(ONE_GRAPH)
)
"""The same for a schedule on a GPU: the whole call is one launch."""

Flow = Callable[[jax.Array, jax.Array, suffix.TimeFeatures], jax.Array]


def _denoise_by(schedule: Schedule, flow: Flow, noise: jax.Array) -> jax.Array:
    """Euler steps of a number that the program knows."""
    count = schedule.times.shape[0]
    step_size = jnp.float32(-1.0) / jnp.float32(count)

    def euler_step(index: jax.Array, x: jax.Array) -> jax.Array:
        return x + step_size * flow(
            x, schedule.times[index], suffix.at_time(schedule.features, index)
        )

    return jax.lax.fori_loop(0, count, euler_step, noise.astype(jnp.float32))


def _denoise(
    features: Callable[[jax.Array], suffix.TimeFeatures],
    arch: Arch,
    num_steps: jax.Array,
    flow: Flow,
    noise: jax.Array,
) -> jax.Array:
    """Euler steps; ``features`` of the times are computed for a block of steps at once."""
    step_size = -1.0 / num_steps.astype(jnp.float32)
    block = STEPS_PER_BLOCK if arch.graph.modulate_once else 1

    def run_block(carry: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
        done, x, time = carry
        # Time is accumulated in float32, as in openpi's sampler: 1, 0.9, 0.79999995, ...
        times = [time]
        for _ in range(block):
            times.append(times[-1] + step_size)
        made = features(jnp.stack(times[:-1]))
        count = jnp.minimum(block, num_steps - done)

        def euler_step(index: jax.Array, x: jax.Array) -> jax.Array:
            now = suffix.at_time(made, index)
            return x + step_size * flow(x, jnp.stack(times)[index], now)

        return done + count, jax.lax.fori_loop(0, count, euler_step, x), times[-1]

    start = (jnp.int32(0), noise.astype(jnp.float32), jnp.float32(1.0))
    return jax.lax.while_loop(lambda carry: carry[0] < num_steps, run_block, start)[1]
